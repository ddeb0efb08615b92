"""The simulated station as a process: real sockets, a controller of raw bytes, the control interface."""

import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.station.config import StationConfig, default_station, dumps

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 10.0
RELEASE = "190101" + "1e020201" + "3e00"


class RawController:
    """A forecourt controller: UDP heartbeats, a TCP listener, one command connection."""

    def __init__(self) -> None:
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.commands: socket.socket | None = None
        self.streams: dict[socket.socket, bytes] = {}
        self.frames: list[bytes] = []
        self.segments: list[bytes] = []
        self.beats: list[bytes] = []
        self._token = 0

    def close(self) -> None:
        for one in [self.udp, self.listener, *self.streams]:
            one.close()

    def connect(self, port: int) -> None:
        self.commands = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.streams[self.commands] = b""

    def beat(self, udp_port: int) -> None:
        port = self.listener.getsockname()[1]
        frame = socket.inet_aton("127.0.0.1") + port.to_bytes(2, "big") + bytes((2, 1, 1, 0))
        self.udp.sendto(frame, ("127.0.0.1", udp_port))

    def wait(self, seconds: float = 0.05) -> None:
        """Take in whatever arrives within `seconds`."""
        ready, _, _ = select.select([self.udp, self.listener, *self.streams], [], [], seconds)
        for one in ready:
            if one is self.udp:
                self.beats.append(self.udp.recv(100))
            elif one is self.listener:
                self.streams[self.listener.accept()[0]] = b""
            else:
                self._read(one)

    def _read(self, one: socket.socket) -> None:
        try:
            chunk = one.recv(65_536)
        except OSError:
            chunk = b""
        if not chunk:
            one.close()
            del self.streams[one]
            return
        self.segments.append(chunk)
        data = self.streams[one] + chunk
        while len(data) >= 8 and len(data) >= 8 + int.from_bytes(data[6:8], "big"):
            size = 8 + int.from_bytes(data[6:8], "big")
            self.frames.append(data[:size])
            data = data[size:]
        self.streams[one] = data

    def until(self, found: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Wait until `found()` is true; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < deadline, "nothing came in time"
            self.wait()
        return value

    def ask(self, kind: int, body: str, node: int = 1, seconds: float = PATIENCE_S) -> bytes:
        """Send a message on the command connection; the body of the answer with the same token."""
        self._token = self._token % 31 + 1
        raw = bytes.fromhex(body)
        head = bytes((1, node, 2, 1, 0, kind << 5 | self._token)) + len(raw).to_bytes(2, "big")
        assert self.commands is not None
        self.commands.sendall(head + raw)
        wanted = {7 << 5 | self._token, 1 << 5 | self._token}
        answer: bytes = self.until(lambda: self._take(wanted), seconds)
        return answer[8:]

    def _take(self, states: set[int]) -> bytes | None:
        found = next((one for one in self.frames if one[5] in states), None)
        if found:
            self.frames.remove(found)
        return found

    def events(self, prefix: str) -> list[bytes]:
        """Bodies of unsolicited messages that begin with `prefix`."""
        start = bytes.fromhex(prefix)
        return [one[8:] for one in self.frames if one[5] == 0x80 and one[8:].startswith(start)]


class Simulator:
    """The process under test."""

    def __init__(self, config: StationConfig, folder: Path) -> None:
        self._file = folder / "station.json"
        self._file.write_text(dumps(config), encoding="utf-8")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sandbox.station.server", "--config", str(self._file)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        self.url = self.ready["control"]
        self.node = self.ready["dispensers"][0]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=PATIENCE_S)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def post(self, path: str, expect: int = 200, **body: object) -> dict[str, Any]:
        answer = requests.post(self.url + path, json=body, timeout=PATIENCE_S)
        assert answer.status_code == expect, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def get(self, path: str) -> dict[str, Any]:
        result: dict[str, Any] = requests.get(self.url + path, timeout=PATIENCE_S).json()
        return result

    def sales(self) -> list[dict[str, Any]]:
        sales: list[dict[str, Any]] = self.get("/ledger")["sales"]
        return sales

    def nozzle(self) -> dict[str, Any]:
        result: dict[str, Any] = self.get("/state")["dispensers"][0]["points"][0]["nozzles"][0]
        return result

    def state(self) -> str:
        return str(self.get("/state")["dispensers"][0]["points"][0]["state"])


@pytest.fixture
def controller() -> Iterator[RawController]:
    made = RawController()
    yield made
    made.close()


@pytest.fixture
def station(tmp_path: Path, controller: RawController) -> Iterator[Simulator]:
    port = controller.udp.getsockname()[1]
    base = default_station(0, data_dir=str(tmp_path), controller_udp_port=port, rate=1000, heartbeat_s=1)
    first = replace(base.dispensers[0], resend_ms=400, running_ms=100)
    simulator = Simulator(replace(base, dispensers=(first, *base.dispensers[1:])), tmp_path)
    yield simulator
    if simulator.process.poll() is None:
        assert simulator.stop() == 0


@pytest.fixture
def linked(station: Simulator, controller: RawController) -> Simulator:
    """A station whose controller has a command connection to node 1."""
    controller.connect(station.node["tcp_port"])
    controller.until(lambda: controller.events("012164"))
    return station


def authorise(controller: RawController, fen: int = 5000, point: str = "21") -> bytes:
    return controller.ask(2, f"01{point}1b0506{fen:08d}{RELEASE}")


def fill(station: Simulator, expect: int = 200, **change: object) -> dict[str, Any]:
    body = {"node": 1, "fp": 0x21, "nozzle": 0x11, "until_preset": True, "wait": True, "timeout_ms": 8000}
    return station.post("/fills", expect, **{**body, **change})


def test_it_says_that_it_is_a_sandbox(station: Simulator) -> None:
    assert station.ready["ready"] is True
    assert station.ready["sandbox"] is True
    assert station.get("/healthz")["sandbox"] is True


def test_heartbeats_name_the_port_to_connect_to(station: Simulator, controller: RawController) -> None:
    expected = bytes.fromhex("7f000001") + station.node["tcp_port"].to_bytes(2, "big") + bytes((1, 1, 1, 3))
    controller.until(lambda: expected in controller.beats)
    assert {beat[7] for beat in controller.beats} <= {1, 2, 3, 4, 5}


def test_it_connects_back_and_answers_there(station: Simulator, controller: RawController) -> None:
    controller.beat(station.node["udp_port"])
    controller.until(lambda: len(controller.streams) == 5, 5)
    controller.connect(station.node["tcp_port"])
    assert controller.ask(0, "010004").hex() == "01000401" + "01"
    assert controller.commands is not None
    assert controller.streams[controller.commands] == b""
    assert not select.select([controller.commands], [], [], 0.1)[0], "the command connection stays silent"


def test_a_prepaid_sale_from_release_to_clear(linked: Simulator, controller: RawController) -> None:
    assert authorise(controller).hex() == "012100"
    assert fill(linked, wait_for_authorise=True)["seq"] == 1
    body = (
        "042121" + "0001" + "6400" + "01020001" + "150102" + "14020000" + "05050600005000" + "06050600000680"
    )
    controller.until(lambda: bytes.fromhex(body) in controller.events("042121"))
    answer = controller.ask(0, "0421210001" + "050607cccd")
    totals = "cc070a000000000000" + "cd070a000000000680"
    assert answer.hex() == "0421210001" + "05050600005000" + "06050600000680" + "070404000735" + totals
    assert controller.ask(2, "0421210001" + "1e00").hex() == "042121000100"
    [sale] = linked.sales()
    assert (sale["amount_fen"], sale["quantity_milli"], sale["state"]) == (5000, 6800, 1)
    assert linked.nozzle()["total_quantity_milli"] == 6800


def test_a_postpaid_sale(linked: Simulator, controller: RawController) -> None:
    started = linked.post("/fills", 202, node=1, fp=0x22, nozzle=0x12, quantity_milli=27_000, timeout_ms=8000)
    controller.until(lambda: [one for one in controller.events("01226400") if one[6] == 4])
    assert controller.ask(2, "01223e00").hex() == "012200"
    controller.until(lambda: controller.events("042221"))
    controller.until(lambda: linked.get(f"/fills/{started['id']}")["phase"] == "done")
    assert linked.sales()[0]["quantity_milli"] == 27_000
    assert linked.sales()[0]["amount_fen"] == 27 * 785


def test_an_unpaid_sale_is_repeated_until_it_is_cleared(linked: Simulator, controller: RawController) -> None:
    authorise(controller)
    fill(linked)
    controller.until(lambda: len(controller.events("042121")) == 3)
    controller.ask(2, "04212100011e00")
    controller.until(lambda: len(controller.events("042121")) == 4)
    controller.wait(0.6)
    assert controller.events("042121")[-1].hex().startswith("04212100016400" + "01020001" + "150101")
    assert len(controller.events("042121")) == 4


def test_glued_frames_arrive_in_one_segment(linked: Simulator, controller: RawController) -> None:
    linked.post("/faults", node=1, kind="glue", frames=3, hold_ms=2000)
    controller.segments.clear()
    linked.post("/nozzles/1/33/17/lift")
    linked.post("/nozzles/1/33/17/hang-up")
    linked.post("/nozzles/1/33/17/lift")
    controller.until(lambda: controller.segments)
    assert controller.segments[0].count(bytes.fromhex("01216400")) == 3


def test_a_split_frame_can_be_put_together(linked: Simulator, controller: RawController) -> None:
    def arrives_split() -> bool:
        linked.post("/faults", node=1, kind="split", bytes=3)
        controller.segments.clear()
        assert controller.ask(0, "010004").hex() == "0100040101"
        return any(len(segment) == 3 for segment in controller.segments)

    # A reader that is late finds both parts at once, so one time of several is enough.
    assert any(arrives_split() for _ in range(20))


def test_a_half_open_connection_swallows_commands(linked: Simulator, controller: RawController) -> None:
    linked.post("/faults", node=1, kind="half_open", ms=700)
    with pytest.raises(AssertionError, match="nothing came in time"):
        controller.ask(0, "010004", seconds=0.4)
    controller.wait(0.5)
    time.sleep(0.4)
    assert controller.ask(0, "010004").hex() == "0100040101"


def test_dropped_heartbeats(station: Simulator, controller: RawController) -> None:
    controller.until(lambda: len(controller.beats) >= 5)
    station.post("/faults", kind="drop_heartbeat", count=2)
    time.sleep(0.1)
    controller.wait(0)
    controller.beats.clear()
    deadline = time.monotonic() + 1.6
    while time.monotonic() < deadline:
        controller.wait(0.1)
    assert controller.beats == []
    controller.until(lambda: len(controller.beats) >= 5)


@pytest.mark.parametrize("kind", ["offline", "power_cut"])
def test_an_outage_in_the_middle_of_a_fill_loses_no_sale(
    linked: Simulator, controller: RawController, kind: str
) -> None:
    linked.post("/clock", rate=20)
    linked.post("/faults", node=1, kind=kind, ms=1500, while_fuelling=1, after_ms=300)
    authorise(controller)
    fill(linked, wait=False, expect=202)
    controller.until(lambda: controller.commands not in controller.streams)
    controller.frames.clear()
    controller.until(lambda: linked.get("/state")["dispensers"][0]["online"])
    controller.connect(linked.node["tcp_port"])
    [done] = controller.until(lambda: controller.events("042121"))[:1]
    [sale] = linked.sales()
    assert done.hex().endswith(
        f"050506{sale['amount_fen']:08d}0605" + f"06{sale['quantity_milli'] // 10:08d}"
    )
    assert linked.nozzle()["total_quantity_milli"] == sale["quantity_milli"]
    assert (sale["amount_fen"] == 5000) == (kind == "offline")


def test_killed_between_sale_and_clear_it_still_knows(linked: Simulator, controller: RawController) -> None:
    authorise(controller)
    fill(linked)
    before = linked.sales(), linked.nozzle()
    assert linked.stop(signal.SIGKILL) == -signal.SIGKILL
    linked.start()
    assert (linked.sales(), linked.nozzle()) == before
    controller.connect(linked.node["tcp_port"])
    controller.until(lambda: controller.events("0421210001"))
    assert controller.ask(2, "04212100011e00").hex() == "042121000100"


def test_stuck_nozzle_sequence_and_clearing_of_faults(linked: Simulator, controller: RawController) -> None:
    linked.post("/faults", script=[{"node": 1, "kind": "stuck_nozzle"}, {"node": 1, "kind": "sequence"}])
    authorise(controller)
    fill(linked)
    assert linked.state() == "FUELLING"
    assert linked.sales() == []
    assert requests.delete(linked.url + "/faults", params={"node": 1}, timeout=5).status_code == 200
    assert linked.state() == "IDLE"
    assert [one["seq"] for one in linked.sales()] == [9999]


def test_a_price_change_over_the_wire(linked: Simulator, controller: RawController) -> None:
    assert controller.ask(2, "0661" + "00000092" + "11" + "02" + "04" + "04000750").hex().endswith("00")
    controller.until(lambda: controller.events("03214199") and controller.events("03224199"))
    assert linked.nozzle()["price_fen_per_unit"] == 750


def test_forty_instant_fills_on_both_sides(linked: Simulator, controller: RawController) -> None:
    linked.post("/clock", instant=True)
    for number in range(1, 21):
        for point in ("21", "22"):
            assert authorise(controller, 1000 + number, point).hex() == f"01{point}00"
            fill(linked, fp=int(point, 16))
            body = controller.ask(2, f"04{point}21{number:04d}1e00")
            assert body.hex() == f"04{point}21{number:04d}00"
    sales = linked.sales()
    assert len(sales) == 40
    assert sum(one["amount_fen"] for one in sales) == 2 * sum(range(1001, 1021))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/nozzles/9/33/17/lift", {}, 404),
        ("/nozzles/1/36/17/lift", {}, 404),
        ("/nozzles/1/33/24/lift", {}, 409),
        ("/nozzles/1/33/17/hang-up", {}, 409),
        ("/nozzles/1/33/17/squeeze", {}, 409),
        ("/nozzles/1/33/17/squeeze", {"quantity_milli": -10}, 400),
        ("/nozzles/1/33/17/squeeze", {"quantity_milli": True}, 400),
        ("/nozzles/1/33/17/squeeze", {"quantity_milli": 10_000_001}, 400),
        ("/fills", {"node": 1, "fp": 33, "nozzle": 17, "quantity_milli": 10_000_001}, 400),
        ("/fills", {"node": 1}, 400),
        ("/fills", {"node": 1, "fp": 33, "nozzle": 24, "quantity_milli": 10}, 404),
        ("/faults", {"kind": "fire"}, 400),
        ("/clock", {"rate": 5000}, 400),
    ],
)
def test_what_cannot_be_done_is_said(
    station: Simulator, path: str, body: dict[str, object], status: int
) -> None:
    assert "error" in station.post(path, status, **body)
