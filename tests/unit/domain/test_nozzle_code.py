"""The signed code on a nozzle: ours reads back, every change of it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.nozzle_code import NozzleCode, NozzleCodeError, sign, verify

KEY = b"k" * 32
CODES = st.builds(
    NozzleCode,
    station_code=st.from_regex(r"[A-Z0-9]{1,12}", fullmatch=True),
    nozzle_no=st.integers(min_value=1, max_value=9999),
    version=st.integers(min_value=1, max_value=9999),
)


@given(CODES)
def test_code_reads_back(code: NozzleCode) -> None:
    text = sign(KEY, code)
    assert verify(KEY, f" {text}\n") == code
    assert len(text) <= 64


@given(CODES, st.binary(min_size=1, max_size=32))
def test_another_key_is_refused(code: NozzleCode, key: bytes) -> None:
    if key != KEY:
        with pytest.raises(NozzleCodeError):
            verify(key, sign(KEY, code))


@given(CODES, st.data())
def test_any_changed_character_is_refused(code: NozzleCode, data: st.DataObject) -> None:
    text = sign(KEY, code)
    at = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != text[at]))
    with pytest.raises(NozzleCodeError):
        verify(KEY, text[:at] + other + text[at + 1 :])


@given(CODES, CODES)
def test_tag_of_another_nozzle_is_refused(one: NozzleCode, other: NozzleCode) -> None:
    if one != other:
        payload, tag = sign(KEY, one).rpartition(".")[0], sign(KEY, other).rpartition(".")[2]
        with pytest.raises(NozzleCodeError):
            verify(KEY, f"{payload}.{tag}")


@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NozzleCodeError):
        verify(KEY, text)


@pytest.mark.parametrize(
    "text", ["", ".", "JZ1.ST001.1.1", "JZ1.ST001.1.1.", "JZ2.ST001.1.1.AAAAAAAAAAAAAAAA", "é.é.é.é.é"]
)
def test_wrong_forms(text: str) -> None:
    with pytest.raises(NozzleCodeError):
        verify(KEY, text)
