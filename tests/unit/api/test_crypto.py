"""Encrypted columns: authenticated, bound to their column, rotatable, searchable by a blind index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.crypto import CipherError, ColumnCipher

INDEX_KEY = b"i" * 32
OLD, NEW = b"o" * 32, b"n" * 32
CIPHER = ColumnCipher({"old": OLD}, INDEX_KEY)


@given(st.text(max_size=60))
def test_what_goes_in_comes_out(text: str) -> None:
    plain = text.encode("utf-8", "ignore").decode()
    envelope = CIPHER.encrypt("driver", "phone", plain)
    assert envelope.startswith("v1|old|")
    assert CIPHER.decrypt("driver", "phone", envelope) == plain


def test_the_same_value_never_looks_the_same() -> None:
    assert CIPHER.encrypt("driver", "phone", "138") != CIPHER.encrypt("driver", "phone", "138")


@pytest.mark.parametrize(("table", "column"), [("driver", "openid"), ("staff", "phone")])
def test_a_moved_ciphertext_does_not_open(table: str, column: str) -> None:
    with pytest.raises(CipherError):
        CIPHER.decrypt(table, column, CIPHER.encrypt("driver", "phone", "13812345678"))


@given(st.text(max_size=80))
def test_garbage_does_not_open(text: str) -> None:
    with pytest.raises(CipherError):
        CIPHER.decrypt("driver", "phone", text)


@given(st.integers(min_value=7, max_value=60))
def test_a_changed_ciphertext_does_not_open(position: int) -> None:
    envelope = CIPHER.encrypt("driver", "phone", "13812345678")
    position %= len(envelope)
    changed = envelope[:position] + ("A" if envelope[position] != "A" else "B") + envelope[position + 1 :]
    if changed.split("|")[2:] == envelope.split("|")[2:]:
        return
    try:
        assert CIPHER.decrypt("driver", "phone", changed) == "13812345678"
    except CipherError:
        return
    assert changed.rstrip("=")[-1] != envelope.rstrip("=")[-1], "only unused base64 bits may differ"


def test_rotation_reads_old_and_writes_new() -> None:
    envelope = CIPHER.encrypt("driver", "phone", "138")
    rotated = ColumnCipher({"new": NEW, "old": OLD}, INDEX_KEY)
    assert rotated.decrypt("driver", "phone", envelope) == "138"
    assert rotated.encrypt("driver", "phone", "138").startswith("v1|new|")
    with pytest.raises(CipherError):
        ColumnCipher({"new": NEW}, INDEX_KEY).decrypt("driver", "phone", envelope)


def test_the_blind_index_is_keyed_and_per_column() -> None:
    index = CIPHER.index("driver", "phone", "13812345678")
    assert index == ColumnCipher({"new": NEW}, INDEX_KEY).index("driver", "phone", "13812345678")
    assert index != CIPHER.index("driver", "openid", "13812345678")
    assert index != ColumnCipher({"old": OLD}, b"j" * 32).index("driver", "phone", "13812345678")
    assert len(index) == 32


@pytest.mark.parametrize("keys", [{}, {"a": b"short"}, {"a|b": OLD}, {"": OLD}])
def test_bad_keys_are_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="key"):
        ColumnCipher(keys, INDEX_KEY)
