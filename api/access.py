"""The register of routes and who may call them, read back from the app itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from api.auth.roles import Allow, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAccess:
    """One route: methods, path template and the roles that it lets in."""

    methods: tuple[str, ...]
    path: str
    roles: frozenset[Role]


class UndeclaredRouteError(Exception):
    """A route does not say who may call it."""


def _guards(dependant: Dependant) -> Iterator[Allow]:
    for one in dependant.dependencies:
        if isinstance(one.call, Allow):
            yield one.call
        yield from _guards(one)


def route_access(app: FastAPI) -> list[RouteAccess]:
    """Return every API route of an app with its roles.

    Raises UndeclaredRouteError for a route without exactly one declaration.
    """
    found = []
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute):
            continue
        guards = list(_guards(route.dependant))
        if len(guards) != 1:
            raise UndeclaredRouteError(f"{route.methods} {route.path}: {len(guards)} declarations")
        methods = tuple(sorted(route.methods or ()))
        found.append(RouteAccess(methods=methods, path=route.path or "", roles=guards[0].roles))
    return found
