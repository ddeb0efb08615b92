"""Opening orders and payment attempts: each method is one transaction that may run twice."""

from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import activity

from activities.errors import SaleBookedMeanwhileError
from activities.order_support import Clock, case_events, event, flag_events, locked, view_of
from activities.ports import PaymentChannel, Transaction, UnitOfWork
from activities.records import AttemptRecord, NozzleQuote, OrderPlace, OrderRecord
from activities.sale_checks import judge_unordered, sale_row
from contracts import names
from contracts.fill import PayCommand, StartAnswer, StartFill, StartOutcome
from contracts.orders import (
    BeginAttempt,
    BegunAttempt,
    LoadAttempt,
    LoadedAttempt,
    OpenedOrder,
    OpenedSale,
    OpenOrder,
    OpenSale,
    OrderView,
)
from contracts.payment import AttemptRef, AttemptSpec
from contracts.station import SaleRecord
from domain import ids, ledger, policy
from domain.money import yuan
from domain.order import INITIAL, FillMode, OrderStatus
from domain.payment import AttemptStatus, PayMethod
from domain.quantity import quantity_text

_PAY_FIRST_ZH = "您有未付款的订单，请先付款或取消，再下新单"
_PAYABLE = (OrderStatus.AWAITING_PAYMENT, OrderStatus.UNPAID)


class OrderOpeningActivities:
    """Opens prepaid orders, post-paid sales and payment attempts. `channels` is keyed by channel name."""

    def __init__(self, uow: UnitOfWork, channels: dict[str, PaymentChannel], clock: Clock) -> None:
        self._uow, self._channels, self._clock = uow, channels, clock

    @activity.defn(name=names.ACT_OPEN_ORDER)
    def open_order(self, request: OpenOrder) -> OpenedOrder:
        """Validate the quote, hold the fuelling point, store order and first attempt; a refusal changes nothing."""
        start, now = request.start, self._clock()
        with self._uow() as tx:
            known = tx.orders.get_for_update(start.order_no)
            if known is not None:
                return self._opened_before(tx, start, *known)
            quote = tx.stations.quote(start.station_code, start.nozzle_no, now)
            refusal = _refusal(start, quote, now)
            if refusal is not None or quote is None:
                return OpenedOrder(answer=refusal or _answer(start, StartOutcome.NOZZLE_UNKNOWN))
            payer = self._customer(tx, start)
            if start.method is PayMethod.WECHAT_JSAPI and payer is None:
                return OpenedOrder(
                    answer=_answer(start, StartOutcome.PAYMENT_UNAVAILABLE, quote, "请先登录微信小程序")
                )
            if start.driver_id is not None and _holds_enough(tx, start.driver_id):
                return OpenedOrder(answer=_answer(start, StartOutcome.TOO_MANY_UNPAID, quote, _PAY_FIRST_ZH))
            if not tx.stations.hold(quote.fuelling_point_id, start.order_no, now + policy.NOZZLE_HOLD, now):
                return OpenedOrder(
                    answer=_answer(start, StartOutcome.NOZZLE_TAKEN, quote, "该枪正在使用，请换一支或稍候")
                )
            order = _new_prepaid(start, quote, now)
            tx.orders.insert(order)
            detail = f"预付 {yuan(start.amount_fen)} 元，单价 {yuan(start.price_fen_per_unit)} 元"
            tx.orders.add_events((event(order, "open", "opened", now, detail=detail),))
            pay = PayCommand(
                method=start.method,
                screen="start",
                driver_id=start.driver_id,
                cashier_id=start.cashier_id,
                terminal_id=start.terminal_id,
            )
            place = _place(quote)
            attempt = self._new_attempt(tx, order, place, pay, payer, "start", 1, start.amount_fen, now)
            return OpenedOrder(
                answer=_answer(start, StartOutcome.ACCEPTED, quote),
                view=view_of(order, place),
                attempt=_ref(attempt),
            )

    def _customer(self, tx: Transaction, start: StartFill) -> str | None:
        """Return the driver's openid, with the driver locked: his starts take turns, so that none overlooks another."""
        if start.driver_id is None:
            return None
        openid = tx.drivers.openid(start.driver_id, lock=True)
        return openid if start.method is PayMethod.WECHAT_JSAPI else None

    def _opened_before(
        self, tx: Transaction, start: StartFill, order: OrderRecord, place: OrderPlace
    ) -> OpenedOrder:
        """Answer a repeated start: the same body meets its own order, another body is an error."""
        if order.body_hash != start.body_hash:
            return OpenedOrder(
                answer=_answer(start, StartOutcome.KEY_REUSED, message="同一请求号用于不同的内容")
            )
        attempt = tx.payments.attempt(ids.out_trade_no(order.order_no, 1))
        answer = StartAnswer(
            outcome=StartOutcome.ACCEPTED,
            order_no=order.order_no,
            price_fen_per_unit=order.price_fen_per_unit,
            price_version=order.price_version,
            amount_fen=order.preset_fen,
        )
        return OpenedOrder(
            answer=answer, view=view_of(order, place), attempt=_ref(attempt) if attempt else None
        )

    @activity.defn(name=names.ACT_OPEN_SALE)
    def open_sale(self, request: OpenSale) -> OpenedSale:
        """Store a finished fill as an unpaid order; outside the meter's tolerance nothing is asked for yet (a person decides).

        A nozzle that nobody has set up is an answer, not an error: the workflow shows it and asks again.
        """
        sale, now = request.sale, self._clock()
        with self._uow() as tx:
            known = tx.orders.get_for_update(request.order_no)
            if known is not None:
                return OpenedSale(view=view_of(*known))
            owner = tx.orders.order_of_sale(sale.natural_key)
            if owner is not None:
                return OpenedSale(owner_order_no=owner)
            quote = tx.stations.quote_of_device(sale.station_code, sale.node, sale.fp, sale.nozzle, now)
            if quote is None:
                return OpenedSale(place_unknown=True)
            return OpenedSale(view=self._insert_sale(tx, request.order_no, sale, quote, now))

    def _insert_sale(
        self, tx: Transaction, order_no: str, reported: SaleRecord, quote: NozzleQuote, now: datetime
    ) -> OrderView:
        judged = judge_unordered(tx.stations, reported, quote, now)
        sale, place = judged.sale, _place(quote)
        order = replace(
            _new_order(order_no, FillMode.POSTPAID, quote, now),
            price_fen_per_unit=sale.price_fen_per_unit,
            price_version=judged.price_version,
            quantity_milli=sale.quantity_milli,
            charge_fen=judged.charge_fen,
            needs_person=judged.flag.value,
        )
        tx.orders.insert(order)
        if not tx.orders.insert_sale(sale_row(judged, order)):
            raise SaleBookedMeanwhileError(sale.natural_key)
        detail = (
            f"{quantity_text(sale.quantity_milli)} {sale.unit.label_zh}，油机金额 {yuan(sale.amount_fen)} 元"
        )
        opened = event(order, "open", "dispensed", now, actor="dispenser", detail=detail)
        tx.orders.add_events(
            (opened, *case_events(order, judged.amounts, now), *flag_events(order, judged.why, now))
        )
        if order.charge_fen:
            tx.ledger.post(order_no, sale_journal(order, place), now)
        return view_of(order, place)

    @activity.defn(name=names.ACT_BEGIN_ATTEMPT)
    def begin_attempt(self, request: BeginAttempt) -> BegunAttempt:
        """Add a payment attempt to an order that waits for money; the same command id meets its own attempt."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            attempts = tx.payments.attempts_of(order.order_no)
            for known in attempts:
                if known.command_id == request.command_id:
                    return BegunAttempt(view=view_of(order, place), attempt=_ref(known), is_new=False)
            if order.paid_fen > 0:
                return BegunAttempt(view=view_of(order, place), refused="already_paid")
            due = order.preset_fen if order.mode is FillMode.PREPAID else order.charge_fen
            if order.status not in _PAYABLE or due <= 0:
                return BegunAttempt(view=view_of(order, place), refused="not_payable")
            payer = request.pay.auth_code
            if request.pay.method is PayMethod.WECHAT_JSAPI:
                payer = self._payer(tx, request.pay.driver_id)
                if payer is None:
                    return BegunAttempt(view=view_of(order, place), refused="payer_unknown")
            attempt = self._new_attempt(
                tx, order, place, request.pay, payer, request.command_id, len(attempts) + 1, due, now
            )
            return BegunAttempt(view=view_of(order, place), attempt=_ref(attempt))

    @activity.defn(name=names.ACT_LOAD_ATTEMPT)
    def load_attempt(self, request: LoadAttempt) -> LoadedAttempt:
        """Return an attempt with its order; nothing when the number is not ours."""
        try:
            order_no = ids.order_no_of_trade(request.out_trade_no)
        except ValueError:
            return LoadedAttempt()
        with self._uow() as tx:
            found = tx.orders.get_for_update(order_no)
            attempt = tx.payments.attempt(request.out_trade_no)
            if found is None or attempt is None:
                return LoadedAttempt()
            return LoadedAttempt(view=view_of(*found), attempt=_ref(attempt))

    def _payer(self, tx: Transaction, driver_id: int | None) -> str | None:
        return tx.drivers.openid(driver_id) if driver_id is not None else None

    def _new_attempt(
        self,
        tx: Transaction,
        order: OrderRecord,
        place: OrderPlace,
        pay: PayCommand,
        payer: str | None,
        command_id: str,
        number: int,
        amount_fen: int,
        now: datetime,
    ) -> AttemptRecord:
        """Store a new attempt with its exact request bytes; `payer` is an openid or a scanned pay code."""
        spec = AttemptSpec(
            out_trade_no=ids.out_trade_no(order.order_no, number),
            method=pay.method,
            amount_fen=amount_fen,
            description=f"{place.station_name} {place.nozzle_no}号枪 {place.product_name}",
            expires_at=now + max(policy.PAYMENT_WINDOW, timedelta(minutes=1)),
            station_code=place.station_code,
            payer=payer,
        )
        attempt = AttemptRecord(
            out_trade_no=spec.out_trade_no,
            order_no=order.order_no,
            number=number,
            command_id=command_id,
            method=pay.method,
            screen=pay.screen,
            cashier_id=pay.cashier_id,
            driver_id=pay.driver_id,
            amount_fen=amount_fen,
            status=AttemptStatus.OPEN,
            request_body=self._channels[pay.method.channel].prepare(spec),
            client_params="{}",
            transaction_id="",
            payer_fen=0,
            code="",
            created_at=now,
            paid_at=None,
        )
        tx.payments.insert_attempt(attempt)
        return attempt


def _holds_enough(tx: Transaction, driver_id: int) -> bool:
    """Return whether a driver has as many pumps waiting for money as one may; terminals and the counter are not counted."""
    return tx.orders.awaiting_payment_of(driver_id) >= policy.MOST_UNPAID_OF_A_DRIVER


def _ref(attempt: AttemptRecord) -> AttemptRef:
    return AttemptRef(
        out_trade_no=attempt.out_trade_no,
        method=attempt.method,
        amount_fen=attempt.amount_fen,
        request_body=attempt.request_body,
    )


def _answer(
    start: StartFill, outcome: StartOutcome, quote: NozzleQuote | None = None, message: str = ""
) -> StartAnswer:
    return StartAnswer(
        outcome=outcome,
        order_no=start.order_no,
        price_fen_per_unit=quote.price_fen_per_unit if quote else 0,
        price_version=quote.price_version if quote else 0,
        amount_fen=start.amount_fen,
        message=message,
    )


def _refusal(start: StartFill, quote: NozzleQuote | None, now: datetime) -> StartAnswer | None:
    """Return why this start cannot be; None when it can."""
    if quote is None:
        return _answer(start, StartOutcome.NOZZLE_UNKNOWN, message="没有这支枪")
    if not quote.station_open or not quote.nozzle_open or not quote.prepaid_allowed:
        return _answer(start, StartOutcome.NOZZLE_CLOSED, quote, "该枪暂不支持预付")
    if quote.station_seen_at is None or now - quote.station_seen_at > policy.STATION_STALE_AFTER:
        return _answer(start, StartOutcome.STATION_STALE, quote, "油站暂时离线，请稍后再试或到柜台付款")
    if (start.price_fen_per_unit, start.price_version) != (quote.price_fen_per_unit, quote.price_version):
        return _answer(
            start, StartOutcome.PRICE_CHANGED, quote, f"单价已变为 {yuan(quote.price_fen_per_unit)} 元"
        )
    if not policy.MIN_PREPAID_FEN <= start.amount_fen <= policy.MAX_PREPAID_FEN:
        return _answer(start, StartOutcome.AMOUNT_INVALID, quote, "金额超出允许范围")
    return None


def _place(quote: NozzleQuote) -> OrderPlace:
    return OrderPlace(
        operator_code=quote.operator_code,
        station_code=quote.station_code,
        station_name=quote.station_name,
        gateway_shard=quote.gateway_shard,
        node=quote.node,
        fp=quote.fp,
        nozzle_no=quote.nozzle_no,
        device_nozzle=quote.device_nozzle,
        product_name=quote.product_name,
        product_kind=quote.product_kind,
        tax_rate_bp=quote.tax_rate_bp,
        platform_priced=quote.platform_priced,
    )


def _new_order(order_no: str, mode: FillMode, quote: NozzleQuote, now: datetime) -> OrderRecord:
    return OrderRecord(
        order_no=order_no,
        operator_id=quote.operator_id,
        station_id=quote.station_id,
        fuelling_point_id=quote.fuelling_point_id,
        nozzle_id=quote.nozzle_id,
        product_id=quote.product_id,
        driver_id=None,
        cashier_id=None,
        terminal_id=None,
        mode=mode,
        status=INITIAL[mode],
        unit=quote.unit,
        price_fen_per_unit=quote.price_fen_per_unit,
        price_version=quote.price_version,
        preset_fen=0,
        paid_fen=0,
        paid_by=None,
        charge_fen=0,
        quantity_milli=0,
        refunded_fen=0,
        surplus_fen=0,
        shortfall_fen=0,
        needs_person="",
        end_reason="",
        body_hash="",
        created_at=now,
        updated_at=now,
        ended_at=None,
    )


def _new_prepaid(start: StartFill, quote: NozzleQuote, now: datetime) -> OrderRecord:
    return replace(
        _new_order(start.order_no, FillMode.PREPAID, quote, now),
        driver_id=start.driver_id,
        cashier_id=start.cashier_id,
        terminal_id=start.terminal_id,
        preset_fen=start.amount_fen,
        body_hash=start.body_hash,
    )


def sale_journal(order: OrderRecord, place: OrderPlace) -> ledger.Journal:
    """Return the journal of a post-paid sale."""
    return ledger.sale_on_credit(
        order.order_no, order.charge_fen, gas=place.product_kind == "gas", tax_rate_bp=place.tax_rate_bp
    )
