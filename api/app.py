"""The FastAPI application: everything versioned under /v1, probes beside it, the console mounted on request."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import errors
from api.access import route_access
from api.deps import ApiDeps, Services
from api.errors import Problem
from api.middleware import RequestMiddleware
from api.routes import cashier, fills, health, identity, notify, orders, stations, terminal

_DESCRIPTION = """Fill and pay for petrol, diesel, gas and charging.

Amounts are integer fen, quantities integer thousandths of the unit. Every command takes an `Idempotency-Key`:
after a timeout send the same request with the same key. Refusals are problem details (RFC 9457) with a stable
`code`.
"""
_SANDBOX = "\n**Sandbox: the outside world is simulated, no money moves.**\n"

Mount = Callable[[FastAPI, Services], None]


def create_app(deps: ApiDeps, *, mounts: Sequence[Mount] = ()) -> FastAPI:
    """Return the app; `mounts` add pages that are no API routes (the console).

    Raises UndeclaredRouteError when a route does not say who may call it.
    """
    parts = Services(deps)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        try:
            yield
        finally:
            await parts.stop()

    app = FastAPI(
        title="加注 Jiazhu API" + ("（沙盒 sandbox）" if deps.sandbox else ""),
        version="1",
        description=_DESCRIPTION + (_SANDBOX if deps.sandbox else ""),
        lifespan=lifespan,
        redirect_slashes=False,
        responses={"4XX": {"model": Problem, "description": "A refusal, as a problem"}},
    )
    app.state.services = parts
    errors.install(app)
    for module in (identity, stations, fills, orders, cashier, terminal, notify, health):
        app.include_router(module.router)
    route_access(app)
    for mount in mounts:
        mount(app, parts)
    app.add_middleware(RequestMiddleware, metrics=parts.metrics)
    return app
