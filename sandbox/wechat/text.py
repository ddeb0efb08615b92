"""Two small things on every hot path: compact JSON, and random tokens without a system call each."""

from __future__ import annotations

import json
import random

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# Nonces and request ids of a simulator need to differ, not to be unguessable; os.urandom costs a tenth of
# a signature.
_random = random.Random()


def dump(value: object) -> str:
    """Compact JSON text, Chinese kept as it is."""
    return _encoder.encode(value)


def token(hex_digits: int) -> str:
    """Random upper-case hex digits."""
    return f"{_random.getrandbits(4 * hex_digits):0{hex_digits}X}"
