"""Ports of the embedded stack: a stranger on one is named, never fought."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.embedded import ports
from workers.embedded.ports import PortWish, any_free, choose, is_free
from workers.embedded.process import StackError, answers


@pytest.fixture
def stranger() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_default_is_replaced_and_said(stranger: int) -> None:
    wish = PortWish(name="api", variable="X_PORT", default=stranger)
    chosen, remarks = choose([wish], {}, {})
    assert chosen["api"] != stranger
    assert is_free(chosen["api"])
    assert str(stranger) in remarks[0]
    assert "X_PORT" in remarks[0]
    assert "pid" in remarks[0]


def test_a_taken_port_that_was_asked_for_is_an_error(stranger: int) -> None:
    wish = PortWish(name="api", variable="X_PORT", default=any_free())
    with pytest.raises(StackError, match=rf"port {stranger} \(api\).*X_PORT"):
        choose([wish], {"X_PORT": str(stranger)}, {})


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80 80"])
def test_nonsense_is_no_port(text: str) -> None:
    with pytest.raises(StackError, match="X_PORT"):
        choose([PortWish(name="api", variable="X_PORT", default=1)], {"X_PORT": text}, {})


def test_the_port_of_the_last_start_is_kept() -> None:
    earlier = any_free()
    wish = PortWish(name="api", variable="X_PORT", default=any_free([earlier]))
    chosen, remarks = choose([wish], {}, {"api": earlier})
    assert chosen == {"api": earlier}
    assert len(remarks) == 1
    assert f"keeps {earlier}" in remarks[0]


def test_a_moved_port_is_said_at_every_start(stranger: int) -> None:
    wish = PortWish(name="api", variable="X_PORT", default=stranger)
    first, _ = choose([wish], {}, {})
    again, remarks = choose([wish], {}, first)
    assert again == first
    assert len(remarks) == 1
    assert re.search(rf"port {stranger} \(api\) is held by .*; using {first['api']} ", remarks[0])


def test_nothing_is_said_about_a_port_in_its_place() -> None:
    wish = PortWish(name="api", variable="X_PORT", default=any_free())
    assert choose([wish], {}, {}) == ({"api": wish.default}, [])


def test_no_two_services_get_one_port() -> None:
    port = any_free()
    wishes = [PortWish(name=name, variable="X", default=port) for name in ("a", "b", "c")]
    chosen, _ = choose(wishes, {}, {})
    assert len(set(chosen.values())) == 3


def test_udp_and_tcp_are_told_apart() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not is_free(port, udp=True)


def system_gives_out(patch: pytest.MonkeyPatch, folder: Path, words: str) -> None:
    """Let the system say that it gives out these ports by itself."""
    path = folder / "ip_local_port_range"
    path.write_text(words, encoding="ascii")
    patch.setattr(ports, "_GIVEN_OUT", path)


def many_free() -> list[int]:
    """Choose a hundred ports, of both kinds."""
    taken: list[int] = []
    for udp in (False, True) * 50:
        taken.append(any_free(taken, udp=udp))
    assert len(set(taken)) == 100
    return taken


def test_a_free_port_is_none_that_the_system_gives_to_others() -> None:
    """Temporal's inner services and every connection get such ports, before the service that waits for its own starts."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    end = first if first >= 12_000 else 32_000
    assert all(10_000 <= port < end for port in many_free())


@pytest.mark.parametrize(
    ("words", "lowest", "end"),
    [
        ("32768\t60999\n", 20_000, 32_000),
        ("49152\t65535\n", 20_000, 32_000),
        ("25000 60999", 13_000, 25_000),
        ("15000\t65000\n", 10_000, 15_000),
        ("12000\t65000\n", 10_000, 12_000),
    ],
)
def test_ports_are_chosen_below_the_range_of_this_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, lowest: int, end: int
) -> None:
    system_gives_out(monkeypatch, tmp_path, words)
    assert all(lowest <= port < end for port in many_free())


@pytest.mark.parametrize("words", ["1024\t65535\n", "11999 65535", "", "all of them"])
def test_a_system_that_leaves_no_room_below_gets_the_usual_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    system_gives_out(monkeypatch, tmp_path, words)
    assert all(20_000 <= port < 32_000 for port in many_free())


def test_a_system_that_says_nothing_gets_the_usual_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "_GIVEN_OUT", tmp_path / "missing")
    assert all(20_000 <= port < 32_000 for port in many_free())


def test_a_stranger_that_speaks_no_http_is_no_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\x00\x00\x06\x04 no HTTP\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        assert not answers(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
