"""Idempotency keys: the same key and body is the same command, the same key with another body is a mistake.

The key is bound to the caller, the command and the order, and becomes the id of the workflow update, so a repeated
command gets its first answer from Temporal and never acts twice.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel
from sqlalchemy import Connection

from api.auth.roles import Principal
from api.errors import ProblemError
from db.repositories.inbox import Claim, claim_key
from domain.ids import body_hash

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9_.:-]{8,80}$",
        description="Chosen by the client, one a command; send the same key again after a timeout.",
        examples=["7f6d2d0e-1f4a-4d1f-9a52-0f3a9d2c7b10"],
    ),
]


def key_reused() -> ProblemError:
    """Return the refusal for a key that came with another body before."""
    return ProblemError(422, "idempotency_key_reused", "请求重复", "同一个请求号用于了不同的内容，请重新操作")


def key_digest(subject: str, command: str, key: str) -> str:
    """Return the name of a caller's key for one kind of command (160 bits, hexadecimal)."""
    return hashlib.sha256("\x1f".join((subject, command, key)).encode()).hexdigest()[:40]


def bind(
    conn: Connection,
    principal: Principal,
    command: str,
    key: str,
    *,
    order_no: str,
    body: BaseModel,
    now: datetime,
    admit: Callable[[], None] = lambda: None,
) -> str:
    """Bind a key to a command and its body; return the id of the update.

    `admit` may refuse a command that comes for the first time; a repeated one always gets its answer again.
    Raises ProblemError 422 when the key was bound to something else, and what `admit` raises: then nothing is bound.
    """
    digest = key_digest(principal.subject, command, key)
    content = body_hash(f"{order_no}\x1f{body.model_dump_json()}".encode())
    claim = claim_key(
        conn, key_hash=f"{command}:{digest}", kind=command, business_no=order_no, body_hash=content, now=now
    )
    if claim is Claim.TAKEN:
        raise key_reused()
    if claim is Claim.FIRST:
        admit()
    return f"{command}-{digest}"
