"""A person at the console, without scripts: logs in, opens pages, gives commands with the CSRF token."""

from dataclasses import dataclass
from datetime import datetime

from fastapi.testclient import TestClient
from httpx import Response

from tests.unit.console.world import NOW, PASSWORD, World

TOKEN = "starlette_admin_csrftoken"


@dataclass
class Till:
    """The client and the world behind it; `now` is the clock that the console reads."""

    client: TestClient
    world: World
    now: datetime = NOW

    def login(self, name: str, password: str = PASSWORD) -> Response:
        """Sign in; the answer is a redirect when it worked."""
        self.client.cookies.clear()
        self.client.get("/console/login")
        form = {"username": name, "password": password, "csrftoken": self.token}
        answer: Response = self.client.post("/console/login", data=form, follow_redirects=False)
        return answer

    @property
    def token(self) -> str:
        """The CSRF token of this browser."""
        return self.client.cookies.get(TOKEN) or ""

    def page(self, path: str, **query: str | int) -> Response:
        """Open a page without following redirects."""
        answer: Response = self.client.get(f"/console{path}", params=query, follow_redirects=False)
        return answer

    def act(self, view: str, name: str, order: str, **form: str) -> Response:
        """Give a row action for an order, named as in the world or by its number."""
        answer: Response = self.client.post(
            f"/console/_api/{view}/row-action",
            params={"name": name, "pk": self.world.orders.get(order, order)},
            data=form,
            headers={"X-CSRFToken": self.token},
            follow_redirects=False,
        )
        return answer
