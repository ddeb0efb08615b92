"""Enrolling a station: one OSCORE context in two halves (RFC 8613), one for each end.

`python -m station_gateway.server.provision --server DIR --client DIR --station CODE`. A context must never be
made again or copied back from a backup while the other half lives: sequence numbers would repeat.
"""

import argparse
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path

SERVER_ID = b"\x01"
_ID_BYTES = 7
"""The longest id that the default AEAD (AES-CCM-16-64-128) allows."""


_MOST_CODE = 32
"""The width of a station code's column."""


class ProvisionError(ValueError):
    """One half is there and the other is not, or the station code cannot name a folder."""


def station_id(station_code: str) -> bytes:
    """Return the OSCORE id of a station; derived, so that both ends agree without a table."""
    return hashlib.sha256(station_code.encode()).digest()[:_ID_BYTES]


def provision(server_dir: Path, client_dir: Path, station_code: str) -> bool:
    """Write the server's half to `server_dir/station_code` and the station's half into `client_dir`.

    Returns False when both are there already; they are left alone. Raises ProvisionError or OSError.
    """
    fits = 0 < len(station_code) <= _MOST_CODE and not set(station_code) & {"/", "\0"}
    if not fits or station_code != Path(station_code).name or station_code.startswith("."):
        raise ProvisionError(f"not a station code: {station_code!r}")
    server_half = server_dir / station_code
    present = [(half / "settings.json").exists() for half in (server_half, client_dir)]
    if all(present):
        return False
    if any(present):
        raise ProvisionError(
            f"only one half of the context of {station_code} is there; enrol it under a new folder"
        )
    secret = {"secret_hex": secrets.token_hex(16), "salt_hex": secrets.token_hex(8)}
    station = station_id(station_code)
    _write(client_dir, secret, sender=station, recipient=SERVER_ID)
    _write(server_half, secret, sender=SERVER_ID, recipient=station)
    return True


def _write(folder: Path, secret: dict[str, str], *, sender: bytes, recipient: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "secret.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(secret, file)
    settings = {"sender-id_hex": sender.hex(), "recipient-id_hex": recipient.hex()}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Enrol a station from the command line."""
    parser = argparse.ArgumentParser(prog="station_gateway.server.provision", description=__doc__)
    parser.add_argument("--server", type=Path, required=True, help="the gateway server's OSCORE folder")
    parser.add_argument("--client", type=Path, required=True, help="folder to carry to the station")
    parser.add_argument("--station", required=True, help="station code")
    options = parser.parse_args(arguments)
    made = provision(options.server, options.client, options.station)
    sys.stdout.write(json.dumps({"station": options.station, "made": made}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
