"""The payload codec: nothing in clear, rotation, and no way to change, move or relabel a payload."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from config.payload_codec import ENCODING, AesGcmCodec, PayloadCodecError

_A = bytes(range(32))
_B = bytes(32)


@given(data=st.binary(max_size=500), kind=st.binary(min_size=1, max_size=20))
def test_round_trip(data: bytes, kind: bytes) -> None:
    codec = AesGcmCodec({"a": _A})
    payload = Payload(metadata={"encoding": kind}, data=data)
    sealed = codec.seal([payload])
    assert sealed[0].metadata["encoding"] == ENCODING
    assert codec.open(sealed) == [payload]


def test_nothing_stays_in_clear_and_no_two_are_alike() -> None:
    codec = AesGcmCodec({"a": _A})
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'{"amount_fen": 20000}')
    first, second = codec.seal([payload, payload])
    assert first.data != second.data
    assert b"amount_fen" not in first.SerializeToString()


async def test_an_older_key_still_reads_and_the_first_writes() -> None:
    old = await AesGcmCodec({"a": _A}).encode([Payload(data=b"x")])
    rotated = AesGcmCodec({"b": _B, "a": _A})
    assert (await rotated.decode(old))[0].data == b"x"
    assert rotated.seal([Payload()])[0].metadata["encryption-key-id"] == b"b"


def test_a_key_that_is_gone_is_named() -> None:
    sealed = AesGcmCodec({"a": _A}).seal([Payload(data=b"x")])
    with pytest.raises(PayloadCodecError, match="'a'"):
        AesGcmCodec({"b": _B}).open(sealed)


def test_a_changed_or_relabelled_payload_is_refused() -> None:
    same_key_twice = AesGcmCodec({"a": _A, "b": _A})
    (sealed,) = same_key_twice.seal([Payload(data=b"x")])
    changed = Payload(metadata=dict(sealed.metadata), data=sealed.data[:-1] + bytes([sealed.data[-1] ^ 1]))
    relabelled = Payload(metadata={**sealed.metadata, "encryption-key-id": b"b"}, data=sealed.data)
    cut = Payload(metadata=dict(sealed.metadata), data=sealed.data[:5])
    for hostile in (changed, relabelled, cut):
        with pytest.raises(PayloadCodecError):
            same_key_twice.open([hostile])


def test_payloads_in_clear_are_refused_except_for_showing() -> None:
    clear = Payload(metadata={"encoding": b"json/plain"}, data=b"1")
    with pytest.raises(PayloadCodecError, match="clear"):
        AesGcmCodec({"a": _A}).open([clear])
    assert AesGcmCodec({"a": _A}, clear_passes=True).open([clear]) == [clear]


def test_a_ring_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        AesGcmCodec({})
