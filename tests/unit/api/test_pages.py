"""The pages beside the API: the way to the console, the documentation from files of our own, the icon."""

import re

import httpx
import pytest

_TARGET = re.compile(r'(?:src|href)="([^"]*)"')
_FOREIGN = re.compile(r"(?i)(?:https?:)?//[a-z0-9.-]+")


async def test_the_documentation_page_needs_no_other_host(api: httpx.AsyncClient) -> None:
    page = await api.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert _FOREIGN.findall(page.text) == []
    targets = _TARGET.findall(page.text)
    assert sum(target.endswith(".js") for target in targets) == 2
    for target in targets:
        answer = await api.get(str(page.url.join(target)))
        assert answer.status_code == 200, target
        assert answer.content
    starter = (await api.get("/docs/start.js")).text
    assert 'url: "openapi.json"' in starter
    assert "validatorUrl: null" in starter
    assert (await api.get("/openapi.json")).json()["paths"]


async def test_the_browser_is_told_to_load_from_us_only(api: httpx.AsyncClient) -> None:
    policy = (await api.get("/docs")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy
    assert _FOREIGN.findall(policy) == []


@pytest.mark.parametrize("name", ["redoc.standalone.js", "..%2fapp.py", "favicon.png", "%00"])
async def test_only_the_files_of_the_page_are_given_out(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.get(f"/docs/{name}")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"].startswith("application/problem+json")


async def test_there_is_no_second_documentation_page(api: httpx.AsyncClient) -> None:
    assert (await api.get("/redoc")).status_code == 404


async def test_the_bare_address_leads_to_the_console(api: httpx.AsyncClient) -> None:
    answer = await api.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")


async def test_the_icon_is_a_picture(api: httpx.AsyncClient) -> None:
    answer = await api.get("/favicon.ico")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
