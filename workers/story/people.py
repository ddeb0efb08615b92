"""A driver with a phone, a cashier, a kiosk, a customer at the dispenser: each speaks to its real interface.

The driver's app, the cashier and the kiosk use the HTTP API; the phone's WeChat is the sandbox's; the customer at
the nozzle moves the dispenser simulator. Everything is on loopback.
"""

import itertools
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import urllib3

from db.seed import STAFF_PASSWORD, STATION, TERMINAL_SECRETS
from workers.embedded.demo_station import NOZZLES_BY_NUMBER

Json = dict[str, Any]
_TIMEOUT_S = 40
_counter = itertools.count(1)
FINAL = frozenset({"completed", "refunded", "expired", "cancelled"})


class StoryError(RuntimeError):
    """Somebody got an answer that the story does not expect; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the stack's interfaces are."""

    api: str
    wechat: str
    station: str


class Line:
    """The HTTP connections of one person. Retries a connection that broke: a person would tap again, same key."""

    def __init__(self, base: str, headers: dict[str, str] | None = None, patience_s: float = 30) -> None:
        self._base, self._patience_s = base, patience_s
        self.headers = headers or {}
        self._pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=_TIMEOUT_S)

    def call(self, method: str, path: str, body: Json | None = None, key: str = "") -> tuple[int, Json]:
        """Return status and JSON of an answer; a broken connection and a 503 are tried again with the same key.

        Raises StoryError when there was no answer within the patience.
        """
        headers = {**self.headers, "Idempotency-Key": key} if key else self.headers
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                answer = self._pool.request(method, self._base + path, json=body, headers=headers)
                if answer.status not in (502, 503, 504):
                    return answer.status, answer.json() if answer.data else {}
                why = f"{answer.status} {answer.data[:200].decode(errors='replace')}"
            except urllib3.exceptions.HTTPError as error:
                why = type(error).__name__
            if time.monotonic() > deadline:
                raise StoryError(f"{method} {path}: {why}")
            time.sleep(0.2)

    def must(self, method: str, path: str, body: Json | None = None, key: str = "") -> Json:
        """Return the JSON of an answer that has to be a success.

        Raises StoryError otherwise.
        """
        status, answer = self.call(method, path, body, key)
        if status >= 400:
            raise StoryError(f"{method} {path}: {status} {answer}")
        return answer


def new_key() -> str:
    """Return a fresh idempotency key, as an app makes one per tap."""
    return uuid.uuid4().hex


class Person:
    """Somebody who follows an order through the API."""

    line: Line

    def order(self, order_no: str) -> Json:
        """Return the order as this person sees it."""
        return self.line.must("GET", f"/v1/orders/{order_no}")

    def wait_for(self, order_no: str, *statuses: str, timeout_s: float = 60) -> Json:
        """Long-poll the order until it has one of these statuses (or any final one).

        Raises StoryError when it does not come in time.
        """
        deadline = time.monotonic() + timeout_s
        until = "".join(f"&until={one}" for one in statuses)
        path = f"/v1/orders/{order_no}?wait=20{until}"
        while time.monotonic() < deadline:
            status, order = self.line.call("GET", path)
            if status == 404:
                time.sleep(0.1)
                continue
            if status != 200:
                raise StoryError(f"GET {path}: {status} {order}")
            if order["status"] in statuses or (order["is_final"] and order["status"] in FINAL):
                return order
        raise StoryError(f"order {order_no} did not become {' or '.join(statuses)} in {timeout_s} s")


@dataclass
class Driver(Person):
    """A driver with the mini-program; `openid` decides in the sandbox how WeChat behaves for this person."""

    addresses: Addresses
    openid: str = ""
    patience_s: float = 30

    def __post_init__(self) -> None:
        self.openid = self.openid or f"o_{uuid.uuid4().hex[:12]}"
        login = Line(self.addresses.api).must("POST", "/v1/driver/login", {"code": f"ok:{self.openid}"})
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        self.line = Line(self.addresses.api, headers, self.patience_s)
        self.wechat = Line(self.addresses.wechat, patience_s=self.patience_s)

    def quote(self, nozzle_no: int, amount_fen: int) -> Json:
        """Ask for the price."""
        body = {"station_code": STATION, "nozzle_no": nozzle_no, "amount_fen": amount_fen}
        return self.line.must("POST", "/v1/fills/quote", body)

    def start(
        self, nozzle_no: int, amount_fen: int, price: tuple[int, int] | None = None
    ) -> tuple[int, Json]:
        """Start a prepaid fill at the quoted price (fen a unit, version)."""
        if price is None:
            quote = self.quote(nozzle_no, amount_fen)
            price = (quote["price_fen_per_unit"], quote["price_version"])
        body = {
            "station_code": STATION,
            "nozzle_no": nozzle_no,
            "amount_fen": amount_fen,
            "price_fen_per_unit": price[0],
            "price_version": price[1],
            "method": "wechat_jsapi",
        }
        return self.line.call("POST", "/v1/fills", body, new_key())

    def confirm(self, pay: Json) -> None:
        """Confirm a JSAPI payment in WeChat, which verifies the paySign first."""
        body = {"prepay": pay["client_params"], "openid": self.openid}
        self.wechat.must("POST", "/_sandbox/phone/confirm", body)

    def scan_and_pay(self, code_url: str) -> tuple[int, Json]:
        """Scan a Native QR code and pay."""
        return self.wechat.call("POST", "/_sandbox/phone/pay", {"code_url": code_url, "openid": self.openid})

    def pay_sale(self, order_no: str) -> Json:
        """Ask to pay an unpaid sale on the phone."""
        return self.line.must("POST", f"/v1/orders/{order_no}/pay", {"method": "wechat_jsapi"}, new_key())


@dataclass
class Cashier(Person):
    """A cashier of the demo station."""

    addresses: Addresses
    login: str = "cashier1"

    def __post_init__(self) -> None:
        body = {"login": self.login, "password": STAFF_PASSWORD}
        tokens = Line(self.addresses.api).must("POST", "/v1/staff/login", body)
        self.line = Line(self.addresses.api, {"Authorization": f"Bearer {tokens['access_token']}"})

    def unpaid(self) -> list[Json]:
        """Return the station's unpaid sales."""
        return list(self.line.must("GET", "/v1/cashier/unpaid")["orders"])

    def take_cash(self, order_no: str, received_fen: int) -> Json:
        """Take cash."""
        path = f"/v1/cashier/orders/{order_no}/cash"
        return self.line.must("POST", path, {"received_fen": received_fen}, new_key())

    def cancel(self, order_no: str, reason: str, approver: str = "manager1") -> Json:
        """Cancel with a reason; the manager types the password too, without which a sale is not written off."""
        path = f"/v1/cashier/orders/{order_no}/cancel"
        body = {"reason": reason, "approver": {"login": approver, "password": STAFF_PASSWORD}}
        return self.line.must("POST", path, body, new_key())

    def scan_pay_code(self, order_no: str, auth_code: str) -> Json:
        """Scan the customer's pay code."""
        body = {"method": "wechat_code", "auth_code": auth_code}
        return self.line.must("POST", f"/v1/orders/{order_no}/pay", body, new_key())


@dataclass
class Screen(Person):
    """A kiosk, pay pillar or POS with its device key."""

    addresses: Addresses
    kind: str
    terminal_id: int
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        secret = f"{self.terminal_id}.{TERMINAL_SECRETS[self.kind]}"
        self.line = Line(self.addresses.api, {"Authorization": f"Device {secret}"})

    def unpaid(self) -> list[Json]:
        """Return the unpaid sales of this screen's nozzles."""
        return list(self.line.must("GET", "/v1/terminal/unpaid")["orders"])

    def show_qr(self, order_no: str) -> Json:
        """Ask for a QR code to pay with."""
        body = {"method": "wechat_native"}
        return self.line.must("POST", f"/v1/orders/{order_no}/pay", body, new_key())

    def order(self, order_no: str) -> Json:
        """Return the order as the screen shows it."""
        return self.line.must("GET", f"/v1/terminal/orders/{order_no}")


class Forecourt:
    """Customers at the nozzles of the simulated dispensers."""

    def __init__(self, addresses: Addresses) -> None:
        self.line = Line(addresses.station)

    def fill(
        self, nozzle_no: int, *, quantity_milli: int | None = None, prepaid: bool, wait: bool = True
    ) -> Json:
        """Lift, fill (a quantity, or until the preset) and hang up; with `wait` returns when the customer left."""
        place = NOZZLES_BY_NUMBER[nozzle_no]
        body: Json = {
            "node": place.node,
            "fp": place.fp,
            "nozzle": 0x10 + place.hook,
            "wait_for_authorise": prepaid,
            "wait": wait,
        }
        body.update({"quantity_milli": quantity_milli} if quantity_milli else {"until_preset": True})
        return self.line.must("POST", "/fills", body)

    def faults(self, **fault: Any) -> None:
        """Plant a fault at the dispensers."""
        self.line.must("POST", "/faults", fault)

    def sales(self) -> list[Json]:
        """Return the dispensers' own ledger."""
        return list(self.line.must("GET", "/ledger?limit=100000")["sales"])
