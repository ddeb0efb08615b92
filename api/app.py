"""The FastAPI application: everything versioned under /v1, probes and pages beside it, the console mounted on request."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from api import errors
from api.access import route_access
from api.auth.roles import Role
from api.deps import ApiDeps, Services
from api.errors import MEDIA_TYPE, Problem
from api.middleware import RequestMiddleware
from api.routes import cashier, fills, health, identity, notify, orders, pages, stations, terminal

_DESCRIPTION = """Fill and pay for petrol, diesel, gas and charging.

Amounts are integer fen, quantities integer thousandths of the unit. Every command takes an `Idempotency-Key`:
after a timeout send the same request with the same key. Refusals are problem details (RFC 9457) with a stable
`code`.
"""
_SANDBOX = "\n**Sandbox: the outside world is simulated, no money moves.**\n"

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Drivers and staff.",
    },
    "device": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "Terminals: `Device {id}.{secret}`.",
    },
}

Mount = Callable[[FastAPI, Services], None]


def _document_access(app: FastAPI) -> None:
    """Write into the OpenAPI document who may call each operation, as the routes declare it."""
    register = route_access(app)
    plain = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        _tell_media_type(document)
        for one in register:
            for method in one.methods:
                operation = document["paths"].get(one.path, {}).get(method.lower())
                if operation is not None:
                    operation["x-roles"] = sorted(one.roles)
                    operation["security"] = _security(one.roles)
        return document

    app.__dict__["openapi"] = documented


def _tell_media_type(document: dict[str, Any]) -> None:
    """Say of every refusal that it comes as problem JSON; FastAPI knows one media type only."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if content.get("application/json", {}).get("schema") == _PROBLEM:
                    content[MEDIA_TYPE] = content.pop("application/json")


def _security(roles: frozenset[Role]) -> list[dict[str, list[str]]]:
    if Role.ANYONE in roles:
        return []
    people: list[dict[str, list[str]]] = [{"bearer": []}] if roles - {Role.TERMINAL} else []
    return people + ([{"device": []}] if Role.TERMINAL in roles else [])


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
        docs_url=None,  # FastAPI's own pages load scripts from a third party's host: api/routes/pages.py
        redoc_url=None,
        responses={"4XX": {"model": Problem, "description": "A refusal, as a problem"}},
    )
    app.state.services = parts
    errors.install(app)
    for module in (identity, stations, fills, orders, cashier, terminal, notify, health, pages):
        app.include_router(module.router)
    _document_access(app)
    for mount in mounts:
        mount(app, parts)
    app.add_middleware(RequestMiddleware, metrics=parts.metrics)
    return app
