"""Uplink bodies: nothing is lost on the way, nothing hostile gets through, everything fits one datagram."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.station import (
    AuthoriseCommand,
    CommandResult,
    CommandState,
    EndReason,
    PointReport,
    PointState,
    SaleRecord,
    StopCommand,
)
from domain.quantity import Unit
from station_gateway.protocols.uplink import bodies

START = datetime(2026, 1, 1, tzinfo=UTC)
whole = st.integers(0, 10**12)
moments = st.integers(0, 10**11).map(lambda ms: START + timedelta(milliseconds=ms))
names = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x4E20, exclude_categories=["Cs"]), min_size=1, max_size=60
)

sales = st.builds(
    SaleRecord,
    natural_key=names.filter(lambda key: "/" not in key),
    station_code=st.just("ST"),
    node=st.integers(1, 127),
    fp=st.integers(33, 36),
    nozzle=st.integers(1, 8),
    sequence=st.integers(0, 9999),
    unit=st.sampled_from(Unit),
    quantity_milli=whole,
    amount_fen=whole,
    price_fen_per_unit=whole,
    end_reason=st.sampled_from(EndReason),
    recorded_at=moments,
    order_no=st.none() | names.map(lambda name: name[:32]),
    totaliser_before_milli=st.none() | whole,
    totaliser_after_milli=st.none() | whole,
    device_time=st.none() | moments,
    offline=st.booleans(),
)


@given(sales)
def test_sale_round_trip(sale: SaleRecord) -> None:
    body = bodies.sale_body(sale)
    assert bodies.parse_sale("ST", json.loads(body)) == replace(sale, natural_key=f"ST/{sale.natural_key}")
    assert bodies.key_at_station(f"ST/{sale.natural_key}") == sale.natural_key
    assert b"ST01" not in body.encode() or "ST01" in sale.natural_key


def test_three_sales_fit_one_datagram() -> None:
    sale = SaleRecord(
        natural_key="BJ-CHAOYANG-017-12-21-9999-999999999990",
        station_code="BJ-CHAOYANG-017",
        node=127,
        fp=36,
        nozzle=8,
        sequence=9999,
        unit=Unit.KILOWATT_HOUR,
        quantity_milli=999_999_990,
        amount_fen=99_999_999,
        price_fen_per_unit=999_999,
        end_reason=EndReason.AUTHORISE_TIMEOUT,
        recorded_at=START,
        order_no="P" + "A" * 21,
        totaliser_before_milli=10**12,
        totaliser_after_milli=10**12,
        device_time=START,
        offline=True,
    )
    assert len(bodies.events_body([bodies.sale_body(sale)] * 3, [])) < bodies.MAX_BODY


def test_commands_results_and_states_round_trip() -> None:
    authorise = AuthoriseCommand(
        command_id="auth-P",
        order_no="P",
        station_code="ST",
        node=1,
        fp=33,
        nozzle=1,
        amount_fen=5000,
        price_fen_per_unit=735,
        expires_at=START,
    )
    stop = StopCommand(command_id="stop-P", order_no="P", station_code="ST", node=1, fp=33, expires_at=START)
    before = START - timedelta(seconds=12.9)
    body = bodies.loads(bodies.commands_body([authorise, stop], before))
    assert [bodies.parse_command("ST", one) for one in body["c"]] == [authorise, stop]
    assert [bodies.parse_ttl_s(one) for one in body["c"]] == [12, 12]
    assert bodies.parse_ttl_s(bodies.command_body(stop)) is None
    assert bodies.commands_body([], START) == b""
    result = CommandResult(
        command_id="c", order_no="P", state=CommandState.REFUSED, code="FP_BUSY", detail="枪"
    )
    assert bodies.parse_result(json.loads(bodies.result_body(result))) == result
    long = replace(result, detail="x" * 500)
    assert len(bodies.result_body(long)) < 200
    report = PointReport(
        station_code="ST", node=1, fp=33, state=PointState.FUELLING, nozzle=2, running_amount_fen=1
    )
    assert bodies.parse_report("ST", json.loads(bodies.report_body(report))) == report


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("left_s", [0.999, 0, -1200])
def test_an_expired_command_is_handed_out_only_as_a_question(left_s: float) -> None:
    stop = StopCommand(command_id="stop-P", order_no="P", station_code="ST", node=1, fp=33, expires_at=START)
    body = bodies.delivery_body(stop, START - timedelta(seconds=left_s))
    assert bodies.parse_ttl_s(body) == 0
    assert bodies.parse_command("ST", body).expires_at == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.feature("003-E5")
@pytest.mark.parametrize(
    "lie",
    [
        {"k": "OTHER/1"},
        {"k": "x" * (bodies.MAX_KEY + 1)},
        {"k": "a\0b"},
        {"k": "\ud800"},
        {"o": "P" * 33},
        {"q": 1 << 31},
    ],
)
def test_a_sale_that_no_column_takes_is_no_sale(lie: dict[str, object]) -> None:
    honest = {
        "k": "1",
        "n": 1,
        "f": 33,
        "z": 1,
        "q": 1,
        "u": "L",
        "m": 1,
        "a": 1,
        "p": 1,
        "e": "normal",
        "t": 1,
    }
    assert bodies.parse_sale("ST", honest).natural_key == "ST/1"
    with pytest.raises(bodies.BodyError):
        bodies.parse_sale("ST", honest | lie)


def test_the_longest_natural_key_fits_its_column() -> None:
    assert len(bodies.station_key("S" * 32, "k" * bodies.MAX_KEY)) == 128


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("knfzqumapetoyxdlisc"), inner, max_size=8)
    ),
    max_leaves=12,
)


@pytest.mark.feature("003-E5")
@given(json_values)
def test_hostile_values_raise_only_body_errors(value: object) -> None:
    for parse in (bodies.parse_sale, bodies.parse_command, bodies.parse_report):
        try:
            parse("ST", value)
        except bodies.BodyError:
            continue
    try:
        bodies.parse_result(value)
    except bodies.BodyError:
        return


@given(st.binary(max_size=40))
def test_hostile_bytes(body: bytes) -> None:
    try:
        assert isinstance(bodies.loads(body), dict)
    except bodies.BodyError:
        return


@pytest.mark.parametrize("body", [b"[1]", b"3", b"\xff", b"{", b"[" * 5000])
def test_not_an_object(body: bytes) -> None:
    with pytest.raises(bodies.BodyError):
        bodies.loads(body)
