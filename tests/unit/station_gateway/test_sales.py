"""What a dispenser's transaction becomes; the bytes are those of the captured transaction 2997."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.station import EndReason
from domain.quantity import Unit
from station_gateway.client.config import NozzleConfig, PointConfig
from station_gateway.client.outbox import OpenAuthorisation
from station_gateway.client.sales import (
    PointKey,
    content_of,
    sale_of_transaction,
    synthesised_sale,
    zero_sale,
)
from station_gateway.protocols.ifsf.errors import IfsfError

NOW = datetime(2026, 8, 1, 4, tzinfo=UTC)
NOZZLE = NozzleConfig(nozzle=1, number=7, product=1, unit=Unit.CUBIC_METRE)
POINT = PointKey(station_code="ST", node=9, config=PointConfig(fp=0x21, nozzles=(NOZZLE,)))
OPENED = OpenAuthorisation(
    node=9,
    fp=0x21,
    nozzle=1,
    order_no="P1",
    command_id="auth-P1",
    price_fen_per_unit=735,
    total_before_milli=21_264_330,
    confirmed=True,
    opened_ms=0,
)
VALUES = {
    0x05: bytes.fromhex("0600005000"),
    0x06: bytes.fromhex("0600000680"),
    0x07: bytes.fromhex("04000735"),
    0x08: b"\x01",
    0x0C: b"\x27",
    0xCA: bytes.fromhex("20260801"),
    0xCB: bytes.fromhex("115959"),
    0xCC: bytes.fromhex("0a000002126433"),
    0xCD: bytes.fromhex("0a000002127113"),
}


def read(**changes: bytes | None) -> dict[int, bytes]:
    merged = VALUES | {int(key[1:], 16): value for key, value in changes.items()}
    return {key: value for key, value in merged.items() if value is not None}


def test_golden_transaction() -> None:
    sale = sale_of_transaction(
        POINT, 2997, VALUES, now=NOW, total_after_milli=None, opened=OPENED, recovered=False
    )
    assert sale.natural_key == "ST-9-21-2997-21271130"
    assert (sale.amount_fen, sale.quantity_milli, sale.price_fen_per_unit) == (5000, 6800, 735)
    assert (sale.unit, sale.order_no, sale.end_reason) == (Unit.CUBIC_METRE, "P1", EndReason.PRESET_REACHED)
    assert (sale.totaliser_before_milli, sale.totaliser_after_milli) == (21_264_330, 21_271_130)
    assert sale.device_time == datetime(2026, 8, 1, 3, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "reason"), [(b"\x22", "customer_stop"), (b"\x25", "stopped"), (b"\0", "normal")]
)
def test_end_reasons(error: bytes, reason: str) -> None:
    sale = sale_of_transaction(
        POINT, 1, read(x0C=error), now=NOW, total_after_milli=None, opened=None, recovered=False
    )
    assert sale.end_reason.value == reason
    recovered = sale_of_transaction(
        POINT, 1, read(x0C=error), now=NOW, total_after_milli=None, opened=None, recovered=True
    )
    assert (recovered.end_reason, recovered.offline) == (EndReason.RECOVERED, True)


NAMELESS: dict[str, bytes | None] = {"xCA": None, "xCB": None, "xCC": None, "xCD": None}


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(NAMELESS, id="neither totaliser nor time"),
        pytest.param(
            NAMELESS | {"xCD": bytes.fromhex("0a000000000000")}, id="a totaliser that stays at nothing"
        ),
        pytest.param(NAMELESS | {"xCA": bytes(4), "xCB": bytes(3)}, id="a clock that was never set"),
        pytest.param(NAMELESS | {"xCA": b"\x20\0\1\1", "xCB": bytes(3)}, id="a clock that begins anew"),
    ],
)
@pytest.mark.parametrize("total", [None, 0])
def test_what_is_the_same_in_every_record_is_no_key(
    nothing: dict[str, bytes | None], total: int | None
) -> None:
    """Else a sale is taken for another one with its sequence number, 9999 sales earlier, and is lost."""
    first, wrapped = (
        sale_of_transaction(
            POINT, 1, read(**nothing), now=when, total_after_milli=total, opened=None, recovered=False
        ).natural_key
        for when in (NOW, NOW + timedelta(days=20))
    )
    assert first != wrapped
    assert first == "ST-9-21-0001-r1785556800000"


def test_a_transaction_is_the_same_whatever_its_state_is() -> None:
    assert content_of(read(x15=b"\x02")) == content_of(read(x15=b"\x03"))
    assert content_of(read()) != content_of(read(x05=bytes.fromhex("0600005001")))
    assert content_of(read()) != content_of(read(xCB=None))


def test_key_without_totaliser_uses_the_device_time_and_then_our_reading() -> None:
    timed = sale_of_transaction(
        POINT, 1, read(xCD=None), now=NOW, total_after_milli=5, opened=None, recovered=False
    )
    assert timed.natural_key == "ST-9-21-0001-t20260801115959"
    bare = sale_of_transaction(
        POINT,
        1,
        read(xCA=None, xCB=None, xCC=None, xCD=None),
        now=NOW,
        total_after_milli=5,
        opened=None,
        recovered=False,
    )
    assert (bare.natural_key, bare.device_time, bare.totaliser_after_milli) == ("ST-9-21-0001-5", None, 5)


@pytest.mark.parametrize(
    "broken",
    [{"x06": None}, {"x08": b"\x05"}, {"x05": b"\x06\x0a\x00"}, {"x07": bytes.fromhex("03000735")}],
)
def test_unreadable_transactions_raise_the_typed_error(broken: dict[str, bytes | None]) -> None:
    with pytest.raises(IfsfError):
        sale_of_transaction(
            POINT, 1, read(**broken), now=NOW, total_after_milli=None, opened=None, recovered=False
        )


def test_nonsense_clock_is_no_time() -> None:
    sale = sale_of_transaction(
        POINT,
        1,
        read(xCA=bytes.fromhex("20269901")),
        now=NOW,
        total_after_milli=None,
        opened=None,
        recovered=False,
    )
    assert sale.device_time is None


def test_zero_and_synthesised_records() -> None:
    zero = zero_sale(POINT, OPENED, EndReason.AUTHORISE_TIMEOUT, NOW)
    assert (zero.order_no, zero.quantity_milli, zero.amount_fen) == ("P1", 0, 0)
    made = synthesised_sale(POINT, OPENED, 21_271_130, NOW)
    assert (made.quantity_milli, made.amount_fen) == (6_800, 4_998)
    assert made.end_reason is EndReason.SYNTHESISED
    backwards = synthesised_sale(POINT, OPENED, 5, NOW)
    assert backwards.quantity_milli == 0
    assert zero.natural_key != made.natural_key
