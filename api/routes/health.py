"""Probes and metrics, outside the versioned API."""

import asyncio

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.auth.roles import Role, allow
from api.deps import Services, ServicesDep
from api.errors import ProblemError
from api.ports import OrderEndedError, TemporalAwayError

router = APIRouter(include_in_schema=False, dependencies=[Depends(allow(Role.ANYONE))])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: ServicesDep) -> dict[str, str]:
    """Say whether PostgreSQL and Temporal answer; raises ProblemError 503 that names who does not."""
    away = [
        name
        for name, ok in zip(
            ("database", "temporal"),
            await asyncio.gather(_database_answers(services), _temporal_answers(services)),
            strict=True,
        )
        if not ok
    ]
    if away:
        raise ProblemError(503, "not_ready", "服务未就绪", ", ".join(away))
    return {"status": "ready"}


async def _database_answers(services: Services) -> bool:
    try:
        await asyncio.wait_for(services.db.read(lambda conn: conn.execute(text("SELECT 1")).scalar()), 3)
    except (TimeoutError, SQLAlchemyError):
        return False
    return True


async def _temporal_answers(services: Services) -> bool:
    try:
        await services.temporal.check()
    except (TemporalAwayError, OrderEndedError):
        return False
    return True


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Return the metrics of this process."""
    own = generate_latest(services.metrics.registry)
    return Response(own + generate_latest(), media_type=CONTENT_TYPE_LATEST)
