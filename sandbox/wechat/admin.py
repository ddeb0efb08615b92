"""The sandbox's own API under `/_sandbox/`: clock, orders, faults, chaos, notifications, book and checks.

It exists on the sandbox's port only; the simulated hosts of `via_responses` never show it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sandbox.wechat import payloads
from sandbox.wechat.ledger import OrderMoney
from sandbox.wechat.model import Notify, Order
from sandbox.wechat.phone import PhoneRefused
from sandbox.wechat.rules import parse_fault
from sandbox.wechat.states import IllegalMove, RefundState
from sandbox.wechat.world import World

Json = dict[str, Any]
PREFIX = "/_sandbox/"


class AdminError(RuntimeError):
    """A request to the admin API that cannot be carried out; carries the HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _number(body: Json, name: str, default: int = 0) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise AdminError(400, f"{name} must be an integer")
    return value


class Admin:
    """Routes of the admin API over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Json]]] = [
            (method, re.compile(pattern), run)
            for method, pattern, run in (
                ("GET", r"clock", self._clock),
                ("POST", r"clock", self._move_clock),
                ("POST", r"reset", self._reset),
                ("GET", r"state", self._state),
                ("GET", r"limits", self._limits),
                ("POST", r"limits", self._set_limits),
                ("GET", r"orders/(?P<otn>[^/]+)", self._order),
                ("POST", r"orders/(?P<otn>[^/]+)/(?P<act>scan|pay|fail|password|cancel)", self._act),
                ("POST", r"phone/(?P<act>scan|pay|confirm)", self._phone),
                ("GET", r"refunds/(?P<no>[^/]+)", self._refund),
                ("POST", r"refunds/(?P<no>[^/]+)/(?P<act>settle|abnormal|close)", self._settle),
                ("GET", r"faults", self._faults),
                ("POST", r"faults", self._add_fault),
                ("POST", r"faults/clear", self._clear_faults),
                ("GET", r"chaos", self._chaos),
                ("POST", r"chaos", self._set_chaos),
                ("GET", r"notifies", self._notifies),
                ("POST", r"notifies/probe", self._probe),
                (
                    "POST",
                    r"notifies/(?P<id>N\d+)/(?P<act>resend|drop|duplicate|tamper)",
                    self._notify_act,
                ),
                ("GET", r"invariants", self._invariants),
                ("GET", r"ledger", self._ledger),
                ("GET", r"ledger/(?P<otn>[^/]+)", self._ledger_one),
                ("GET", r"journal", self._journal),
                ("GET", r"messages", self._messages),
            )
        ]

    def handle(self, method: str, path_qs: str, raw: bytes) -> tuple[int, Json]:
        """Answer one admin call as (HTTP status, JSON).

        `advance_s` blocks until the notifications are out.
        """
        parts = urlsplit(path_qs)
        query = dict(parse_qsl(parts.query))
        inner = parts.path.removeprefix(PREFIX).strip("/")
        for wanted, pattern, run in self._routes:
            found = pattern.fullmatch(inner)
            if found and wanted == method:
                params = {name: unquote(value) for name, value in found.groupdict().items()}
                return self._guarded(run, params, query, raw)
        return 404, {"error": f"no admin route {method} {parts.path}"}

    def _guarded(self, run: Callable[..., Json], params: Json, query: Json, raw: bytes) -> tuple[int, Json]:
        try:
            body = json.loads(raw) if raw else {}
            if not isinstance(body, dict):
                raise AdminError(400, "a JSON object is expected")
            return 200, run(body=body, query=query, **params)
        except AdminError as error:
            return error.status, {"error": str(error)}
        except PhoneRefused as refusal:
            return 409, {"error": str(refusal), "refused_by": "phone"}
        except IllegalMove as refusal:
            return 409, {"error": str(refusal), "refused_by": "state"}
        except (ValueError, TypeError) as wrong:
            return 400, {"error": str(wrong)}

    # --- clock and settings -----------------------------------------------------------------------

    def _clock(self, *, body: Json, query: Json) -> Json:
        clock = self._world.clock
        return {
            "now_ms": clock.now_ms(),
            "now": clock.now().isoformat(),
            "signature_s": self._world.signature_s(),
        }

    def _move_clock(self, *, body: Json, query: Json) -> Json:
        unknown = set(body) - {"advance_s", "freeze", "rate", "now_ms"}
        if unknown or not body:
            raise AdminError(400, "one of advance_s, now_ms, freeze, rate is expected")
        events: list[Json] = []
        if "rate" in body or "freeze" in body:
            with self._world.transaction():
                rate = 0 if body.get("freeze") else _number(body, "rate", 1)
                self._world.clock.set_rate(rate)
                self._world.state.save_clock()
        seconds = _number(body, "advance_s")
        if "now_ms" in body:
            seconds = (_number(body, "now_ms") - self._world.clock.now_ms()) // 1000
        if seconds < 0:
            raise AdminError(400, "the clock only moves forward")
        if seconds:
            events = self._world.advance(seconds)
        return {**self._clock(body=body, query=query), "events": events}

    def _reset(self, *, body: Json, query: Json) -> Json:
        self._world.reset()
        return {"ok": True}

    def _state(self, *, body: Json, query: Json) -> Json:
        with self._world.lock:
            state = self._world.state
            by_state: dict[str, int] = {}
            for order in state.orders.values():
                by_state[order.state] = by_state.get(order.state, 0) + 1
            return {
                "sandbox": True,
                "merchants": sorted(self._world.rings),
                "orders": by_state,
                "refunds": len(state.refunds),
                "notifies": len(state.notifies),
                "timers": len(state.timers),
                "balances": dict(state.ledger.balances)
                if query.get("balances")
                else {
                    name: fen for name, fen in state.ledger.balances.items() if not name.startswith("payer:")
                },
                "now_ms": self._world.clock.now_ms(),
            }

    def _limits(self, *, body: Json, query: Json) -> Json:
        return dataclasses.asdict(self._world.state.limits)

    def _set_limits(self, *, body: Json, query: Json) -> Json:
        with self._world.transaction():
            limits = self._world.state.limits
            self._check_names(body, set(dataclasses.asdict(limits)))
            for name in body:
                setattr(limits, name, _number(body, name))
            self._world.state.save_limits()
        return self._limits(body=body, query=query)

    def _check_names(self, body: Json, known: set[str]) -> None:
        unknown = set(body) - known
        if unknown:
            raise AdminError(400, f"unknown names {sorted(unknown)}; known are {sorted(known)}")

    # --- orders, the phone, refunds ---------------------------------------------------------------

    def _find(self, otn: str, query: Json) -> Order:
        order = self._world.order(otn, query.get("mchid", ""))
        if order is None:
            raise AdminError(404, "no such order")
        return order

    def _order(self, *, otn: str, body: Json, query: Json) -> Json:
        with self._world.lock:
            order = self._find(otn, query)
            refunds = [payloads.refund(refund, order) for refund in self._world.engine.refunds_of(order)]
            money = self._money(self._world.money(otn, query.get("mchid", "")))
            return {
                **payloads.transaction(order),
                "product": order.product,
                "history": order.history,
                "refunds": refunds,
                "money": money,
            }

    def _act(self, *, otn: str, act: str, body: Json, query: Json) -> Json:
        phone = self._world.phone
        openid = str(body.get("openid", ""))
        if act == "pay":
            phone.pay(out_trade_no=otn, openid=openid)
        elif act == "password":
            phone.enter_password(otn)
        elif act == "scan":
            order = self._find(otn, query)
            if not order.code_urls:
                raise AdminError(409, "the order has no code to scan")
            return phone.scan(order.code_urls[-1][0]).as_dict()
        elif act == "fail":
            phone.fail(otn)
        else:
            phone.cancel(otn)
        return self._order(otn=otn, body=body, query=query)

    def _phone(self, *, act: str, body: Json, query: Json) -> Json:
        phone = self._world.phone
        openid = str(body.get("openid", ""))
        if act == "scan":
            return phone.scan(str(body.get("code_url", ""))).as_dict()
        if act == "confirm":
            return {"result": phone.confirm(dict(body.get("prepay", body)), openid)}
        names = {name: str(body[name]) for name in ("code_url", "prepay_id", "out_trade_no") if name in body}
        if len(names) != 1:
            raise AdminError(400, "exactly one of code_url, prepay_id, out_trade_no is expected")
        result = phone.pay(**names, openid=openid)
        with self._world.lock:
            return {"result": result, **payloads.transaction(phone.find(**names))}

    def _refund_key(self, no: str, query: Json) -> str:
        key = f"{query.get('mchid', self._world.material.mchid)}/{no}"
        if key not in self._world.state.refunds:
            raise AdminError(404, "no such refund")
        return key

    def _refund(self, *, no: str, body: Json, query: Json) -> Json:
        with self._world.lock:
            refund = self._world.state.refunds[self._refund_key(no, query)]
            return {"refund": dict(refund.__dict__)}

    def _settle(self, *, no: str, act: str, body: Json, query: Json) -> Json:
        outcome = {
            "settle": RefundState.SUCCESS,
            "abnormal": RefundState.ABNORMAL,
            "close": RefundState.CLOSED,
        }[act]
        with self._world.transaction():
            refund = self._world.state.refunds[self._refund_key(no, query)]
            self._world.engine.settle_refund(refund, outcome)
        return self._refund(no=no, body=body, query=query)

    # --- faults -----------------------------------------------------------------------------------

    def _faults(self, *, body: Json, query: Json) -> Json:
        return {"faults": [rule.as_dict() for rule in self._world.faults]}

    def _add_fault(self, *, body: Json, query: Json) -> Json:
        with self._world.lock:
            rule = parse_fault(body, f"F{len(self._world.faults) + 1}")
            self._world.faults.append(rule)
            return rule.as_dict()

    def _clear_faults(self, *, body: Json, query: Json) -> Json:
        with self._world.lock:
            self._world.faults.clear()
        return {"ok": True}

    def _chaos(self, *, body: Json, query: Json) -> Json:
        return self._world.chaos.as_dict()

    def _set_chaos(self, *, body: Json, query: Json) -> Json:
        with self._world.lock:
            self._check_names(body, set(self._world.chaos.as_dict()) | {"seed"})
            if "seed" in body:
                self._world.rng.seed(_number(body, "seed"))
            for name, value in body.items():
                if name == "slow_ms":
                    low, high = value
                    self._world.chaos.slow_ms = [int(low), int(high)]
                elif name != "seed":
                    setattr(self._world.chaos, name, float(value))
        return self._world.chaos.as_dict()

    # --- notifications ----------------------------------------------------------------------------

    def _notifies(self, *, body: Json, query: Json) -> Json:
        wanted, otn = query.get("status"), query.get("otn")
        with self._world.lock:
            found = [
                {name: value for name, value in notify.__dict__.items() if name != "resource"}
                for notify in self._world.state.notifies.values()
                if (not wanted or notify.status == wanted) and (not otn or notify.out_trade_no == otn)
            ]
        return {"notifies": found[-int(query.get("limit", 1000)) :]}

    def _notify_act(self, *, id: str, act: str, body: Json, query: Json) -> Json:
        with self._world.transaction():
            book = self._world.notifications
            notify = self._world.state.notifies.get(id)
            if notify is None:
                raise AdminError(404, "no such notification")
            if act == "drop":
                book.drop(notify)
            elif act == "duplicate":
                notify = book.duplicate(notify, self._world.clock.now_ms())
            else:
                notify.tamper = 1 if act == "tamper" else 0
                book.resend(notify)
            return {"id": notify.id, "event_id": notify.event_id, "status": notify.status}

    def _probe(self, *, body: Json, query: Json) -> Json:
        """Send a notification with WeChat's test signature; a sound receiver answers 4xx or 5xx."""
        with self._world.transaction():
            now_ms = self._world.clock.now_ms()
            notify = Notify(
                id=f"N{self._world.state.number():08d}",
                event_id=f"EV-PROBE-{now_ms}",
                mchid=self._world.material.mchid,
                url=str(body.get("url", "")),
                event_type="TRANSACTION.SUCCESS",
                original_type="transaction",
                summary="支付成功",
                out_trade_no="",
                resource={},
                created_ms=now_ms,
                probe=True,
            )
            self._world.state.touch_notify(notify)
            self._world.notifications.resend(notify)
        self._world.couriers.wait(notify.id, 10)
        with self._world.lock:
            answered = notify.attempts[-1][1] if notify.attempts else 0
            return {"id": notify.id, "answered": answered, "sound": answered >= 400}

    # --- checks -----------------------------------------------------------------------------------

    def _invariants(self, *, body: Json, query: Json) -> Json:
        violations = self._world.invariants()
        return {"ok": not violations, "violations": violations}

    def _money(self, money: OrderMoney) -> Json:
        return {
            "paid_fen": money.paid_fen,
            "refunded_fen": money.refunded_fen,
            "in_transit_fen": money.in_transit_fen,
            "net_fen": money.net_fen,
        }

    def _ledger(self, *, body: Json, query: Json) -> Json:
        prefix = query.get("prefix", "")
        with self._world.lock:
            state = self._world.state
            rows = [
                {
                    "out_trade_no": order.out_trade_no,
                    "mchid": order.mchid,
                    "trade_state": order.state,
                    **self._money(state.ledger.orders.get(key, OrderMoney())),
                }
                for key, order in state.orders.items()
                if order.out_trade_no.startswith(prefix)
            ]
            names = ("paid_fen", "refunded_fen", "in_transit_fen", "net_fen")
            totals = {name: sum(row[name] for row in rows) for name in names}
        return {"orders": rows, "totals": totals}

    def _ledger_one(self, *, otn: str, body: Json, query: Json) -> Json:
        with self._world.lock:
            order = self._find(otn, query)
            money = self._money(self._world.money(otn, query.get("mchid", "")))
            moves = [
                dict(move.__dict__)
                for move in self._world.state.ledger.movements
                if move.out_trade_no == otn and move.mchid == order.mchid
            ]
        return {"out_trade_no": otn, "trade_state": order.state, **money, "movements": moves}

    def _journal(self, *, body: Json, query: Json) -> Json:
        since = int(query.get("since", 0))
        with self._world.lock:
            events = [event for event in self._world.state.journal if event["seq"] > since]
        return {"events": events[: int(query.get("limit", 1000))]}

    def _messages(self, *, body: Json, query: Json) -> Json:
        with self._world.lock:
            return {"messages": self._world.miniapp.messages()}
