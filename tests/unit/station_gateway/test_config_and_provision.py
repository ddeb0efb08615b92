"""Configuration that cannot work is refused with words; enrolment is done once."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from station_gateway.client.config import ConfigError, dump, load, parse
from station_gateway.protocols.uplink.coap import load_context, release_context
from station_gateway.server.contexts import StationContexts
from station_gateway.server.provision import ProvisionError, main, provision, station_id

NOZZLE = {"nozzle": 1, "number": 1, "product": 92, "unit": "L"}
POINT = {"fp": 33, "nozzles": [NOZZLE]}
DISPENSER = {"node": 1, "ip": "127.0.0.1", "points": [POINT]}
CONFIG: dict[str, Any] = {
    "station_code": "ST",
    "server": "127.0.0.1:5683",
    "oscore_dir": "o",
    "data_dir": "d",
    "dispensers": [DISPENSER],
}


def test_round_trip(tmp_path: Path) -> None:
    config = parse(CONFIG)
    assert parse(json.loads(dump(config))) == config
    (tmp_path / "c.json").write_text(dump(config), encoding="utf-8")
    assert load(tmp_path / "c.json") == config
    (tmp_path / "c.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not JSON"):
        load(tmp_path / "c.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "elsewhere.json")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"transport": "smoke"}, "udp or tcp"),
        ({"dispensers": []}, "has dispensers"),
        ({"dispensers": [DISPENSER, DISPENSER]}, "nodes repeat"),
        ({"dispensers": [DISPENSER | {"points": [POINT | {"fp": 1}]}]}, "33..36"),
        ({"dispensers": [DISPENSER | {"points": [POINT | {"nozzles": []}]}]}, "nozzles are missing"),
        (
            {"dispensers": [DISPENSER | {"points": [POINT | {"nozzles": [NOZZLE | {"unit": "gal"}]}]}]},
            "unit is one",
        ),
        ({"dispensers": [DISPENSER | {"points": [POINT | {"nozzles": [NOZZLE | {"nozzle": 9}]}]}]}, "1..8"),
        ({"dispensers": [DISPENSER | {"nozzle_out_bit": 2}]}, "nozzle_out_bit"),
        ({"dispensers": [DISPENSER | {"empty_buffer_acks": []}]}, "empty_buffer_acks"),
        ({"dispensers": [DISPENSER | {"empty_buffer_acks": [256]}]}, "empty_buffer_acks"),
        ({"dispensers": "x"}, "list"),
        ({"poll_hold_s": "x"}, "not float"),
        ({"colour": "red"}, "unknown keys"),
    ],
)
def test_impossible_configurations(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(CONFIG | change)


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"missing keys of ClientConfig.*server"):
        parse({"station_code": "ST"})


@pytest.mark.feature("003-E5")
def test_provision_makes_two_halves_once(tmp_path: Path) -> None:
    server, client = tmp_path / "server", tmp_path / "client"
    assert provision(server, client, "ST01")
    before = (client / "secret.json").read_text(encoding="utf-8")
    assert not provision(server, client, "ST01")
    assert (client / "secret.json").read_text(encoding="utf-8") == before
    assert stat.S_IMODE((client / "secret.json").stat().st_mode) == 0o600
    with pytest.raises(ProvisionError, match="one half"):
        provision(server, tmp_path / "other", "ST01")
    for code in ("", "../x", ".hidden", "a/b", "S" * 33):
        with pytest.raises(ProvisionError):
            provision(server, tmp_path / "other", code)


def test_contexts_are_found_by_key_id_and_new_ones_are_seen(tmp_path: Path) -> None:
    server = tmp_path / "server"
    provision(server, tmp_path / "c1", "ST01")
    contexts = StationContexts(server)
    assert contexts.find_oscore({4: station_id("ST01")}).authenticated_claims == ["ST01"]
    with pytest.raises(KeyError):
        contexts.find_oscore({4: station_id("ST02")})
    with pytest.raises(KeyError):
        contexts.find_oscore({})
    provision(server, tmp_path / "c2", "ST02")
    contexts.scan()
    assert contexts.find_oscore({4: station_id("ST02")}).authenticated_claims == ["ST02"]
    assert contexts.stations == ["ST01", "ST02"]
    contexts.close()
    again = load_context(server / "ST01", "ST01")
    release_context(again)


@pytest.mark.feature("003-E5")
def test_a_removed_station_key_is_refused(tmp_path: Path) -> None:
    server = tmp_path / "server"
    provision(server, tmp_path / "c1", "STOLEN")
    provision(server, tmp_path / "c2", "ST02")
    contexts = StationContexts(server)
    stolen = contexts.find_oscore({4: station_id("STOLEN")})
    shutil.rmtree(server / "STOLEN")
    contexts.scan()
    with pytest.raises(KeyError):
        contexts.find_oscore({4: station_id("STOLEN")})
    assert contexts.stations == ["ST02"]
    stolen.new_sequence_number()
    assert not (server / "STOLEN").exists()
    contexts.close()


@pytest.mark.feature("003-E5")
def test_a_replaced_station_key_is_the_only_one_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("station_gateway.server.contexts.RESCAN_S", 0.0)
    server, kid = tmp_path / "server", station_id("ST01")
    provision(server, tmp_path / "stolen", "ST01")
    contexts = StationContexts(server)
    old = contexts.find_oscore({4: kid})
    assert contexts.find_oscore({4: kid}) is old
    (server / "ST01").rename(tmp_path / "withdrawn")
    provision(server, tmp_path / "new", "ST01")
    new = contexts.find_oscore({4: kid})
    assert new is not old
    assert new.recipient_key != old.recipient_key
    old.new_sequence_number()
    assert not (server / "ST01" / "sequence.json").exists()
    assert contexts.stations == ["ST01"]
    contexts.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_context_is_passed_over(tmp_path: Path) -> None:
    server = tmp_path / "server"
    provision(server, tmp_path / "c1", "ST01")
    provision(server, tmp_path / "c2", "ST02")
    (server / "ST01" / "settings.json").write_text("{}", encoding="utf-8")
    contexts = StationContexts(server)
    assert contexts.stations == ["ST02"]
    contexts.close()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--server", str(tmp_path / "s"), "--client", str(tmp_path / "c"), "--station", "ST09"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"station": "ST09", "made": True}
