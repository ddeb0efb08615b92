"""Pages for people, outside the versioned API: the way to the console, the API's documentation, the icon.

Everything comes from files of this installation; no page names another host. Swagger UI's own files are the ones
that the package `fastapi-offline` carries.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, RedirectResponse

from api.auth.roles import Role, allow
from api.errors import not_found

router = APIRouter(include_in_schema=False, dependencies=[Depends(allow(Role.ANYONE))])
_OURS = Path(__file__).parents[1] / "static"
# Swagger UI sets styles on its elements and draws its icons from data: addresses; scripts are files only.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _swagger_ui() -> Path:
    """Return the folder with Swagger UI's files; raises RuntimeError when the package is not installed."""
    found = find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise RuntimeError("fastapi-offline is missing: install requirements/base.txt")
    return Path(found.origin).parent / "static"


_THEIRS = _swagger_ui()
_FILES = {
    "swagger-ui.css": (_THEIRS / "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (_THEIRS / "swagger-ui-bundle.js", "text/javascript"),
    "start.js": (_OURS / "docs.js", "text/javascript"),
}


@router.get("/")
async def root() -> RedirectResponse:
    """Lead whoever opens the bare address to the staff console."""
    return RedirectResponse("/console/", status_code=303)


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    """Return the icon; browsers ask for it under this name, whatever its format."""
    return FileResponse(_OURS / "favicon.svg", media_type="image/svg+xml")


@router.get("/docs")
async def documentation() -> FileResponse:
    """Return Swagger UI's page over `/openapi.json`."""
    headers = {"content-security-policy": _POLICY}
    return FileResponse(_OURS / "docs.html", media_type="text/html", headers=headers)


@router.get("/docs/{name}")
async def documentation_file(name: str) -> FileResponse:
    """Return a file of the documentation page; raises ProblemError 404 for any other name."""
    if name not in _FILES:
        raise not_found("没有这个文件")
    path, kind = _FILES[name]
    return FileResponse(path, media_type=kind)
