"""Our own processes and the sandbox as services.

Their commands, their environment, how they show that they serve.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.settings import SettingsError, load
from station_gateway.server.provision import provision
from workers.embedded import demo_station
from workers.embedded.ports import LOOPBACK, PortWish, malformed
from workers.embedded.process import ServiceSpec, python

PORTS = (
    PortWish(name="api", variable="JIAZHU_API_PORT", default=8000),
    PortWish(name="temporal", variable="JIAZHU_TEMPORAL_PORT", default=7233),
    PortWish(name="temporal_ui", variable="JIAZHU_TEMPORAL_UI_PORT", default=8233),
    PortWish(name="temporal_http", variable="JIAZHU_TEMPORAL_HTTP_PORT", default=7243),
    PortWish(name="temporal_metrics", variable="JIAZHU_TEMPORAL_SERVER_METRICS_PORT", default=7253),
    PortWish(name="codec", variable="JIAZHU_CODEC_PORT", default=8088),
    PortWish(name="wechat", variable="JIAZHU_SANDBOX_WECHAT_PORT", default=8090),
    PortWish(name="station", variable="JIAZHU_SANDBOX_STATION_PORT", default=8091),
    PortWish(name="worker_probe", variable="JIAZHU_WORKER_PROBE_PORT", default=9101),
    PortWish(name="gateway_probe", variable="JIAZHU_GATEWAY_PROBE_PORT", default=9102),
    PortWish(name="coap", variable="JIAZHU_GATEWAY_COAP_PORT", default=5683, udp=True),
    PortWish(name="heartbeat", variable="JIAZHU_STATION_HEARTBEAT_PORT", default=3486, udp=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """How the embedded stack differs from run to run. `rate` multiplies the speed of flow at the dispensers;
    `instant` lets a fill take no time (benches). `free_ports` is for tests: never the well-known defaults.
    """

    workers: int = 1
    rate: int = 20
    instant: bool = False
    seed: int = 0
    free_ports: bool = False
    migrate: bool = True


def url(port: int) -> str:
    """The address of an HTTP server of the stack."""
    return f"http://{LOOPBACK}:{port}"


def wrong_settings() -> list[str]:
    """Return a line for every setting that the stack or a process of it would refuse; looked at before anything starts."""
    wrong = malformed(PORTS, os.environ)
    try:
        load()
    except SettingsError as error:
        wrong = dict(line.split(": ", 1) for line in str(error).splitlines()) | wrong
    return [f"{name}: {why}" for name, why in sorted(wrong.items())]


def base_environment(ports: Mapping[str, int], folder: Path) -> dict[str, str]:
    """What every child is told, but for secrets, database and channel keys."""
    return {
        "TEMPORAL_NAMESPACE": "default",
        "TEMPORAL_ADDRESS": f"{LOOPBACK}:{ports['temporal']}",
        "JIAZHU_TEMPORAL_UI_URL": url(ports["temporal_ui"]),
        "JIAZHU_API_HOST": LOOPBACK,
        "JIAZHU_API_PORT": str(ports["api"]),
        "JIAZHU_PUBLIC_BASE_URL": url(ports["api"]),
        "JIAZHU_CODEC_HOST": LOOPBACK,
        "JIAZHU_CODEC_PORT": str(ports["codec"]),
        "JIAZHU_WECHAT_BASE_URL": url(ports["wechat"]),
        "JIAZHU_WECHAT_STANDBY_BASE_URL": "",
        "JIAZHU_WECHAT_MINIAPP_BASE_URL": url(ports["wechat"]),
        "JIAZHU_WECHAT_NOTIFY_BASE_URL": url(ports["api"]),
        "JIAZHU_GATEWAY_SHARD": "0",
        "JIAZHU_GATEWAY_COAP_HOST": LOOPBACK,
        "JIAZHU_GATEWAY_COAP_PORT": str(ports["coap"]),
        "JIAZHU_GATEWAY_OSCORE_FOLDER": str(folder / "oscore" / "server"),
        "JIAZHU_PROBE_HOST": LOOPBACK,
        "JIAZHU_WORKER_PROBE_PORT": str(ports["worker_probe"]),
        "JIAZHU_GATEWAY_PROBE_PORT": str(ports["gateway_probe"]),
        "JIAZHU_SANDBOX": "true",
        "JIAZHU_EMBEDDED": "true",
    }


def channel_environment(keys_folder: Path) -> dict[str, str]:
    """The merchant's half of the sandbox's key material, as a person would copy it out of the merchant
    platform.
    """
    material = json.loads((keys_folder / "material.json").read_text(encoding="utf-8"))
    files = material["files"]
    return {
        "JIAZHU_WECHAT_MCHID": material["mchid"],
        "JIAZHU_WECHAT_APPID": material["appid"],
        "JIAZHU_WECHAT_APPSECRET": material["appsecret"],
        "JIAZHU_WECHAT_APIV3_KEY": material["apiv3_key"],
        "JIAZHU_WECHAT_MERCHANT_SERIAL": material["merchant_serial"],
        "JIAZHU_WECHAT_MERCHANT_PRIVATE_KEY_PATH": str(keys_folder / files["merchant_private_pem"]),
        "JIAZHU_WECHAT_PUBLIC_KEY_PATH": str(keys_folder / files["wechat_public_pem"]),
        "JIAZHU_WECHAT_PUBLIC_KEY_ID": material["wechat_public_key_id"],
    }


def wechat_spec(folder: Path, ports: Mapping[str, int], seed: int) -> ServiceSpec:
    """The WeChat sandbox over HTTP."""
    data = folder / "wechat"
    data.mkdir(parents=True, exist_ok=True)
    command = (
        "sandbox.wechat.server",
        "--port",
        str(ports["wechat"]),
        "--data",
        str(data),
        "--seed",
        str(seed),
    )
    return ServiceSpec(name="wechat", command=python(*command))


def station_spec(folder: Path, ports: Mapping[str, int], options: StackOptions) -> ServiceSpec:
    """The dispensers of the demo station."""
    data = folder / "station"
    data.mkdir(parents=True, exist_ok=True)
    config = demo_station.simulator_config(
        data_dir=str(data),
        control_port=ports["station"],
        heartbeat_port=ports["heartbeat"],
        rate=options.rate,
        instant=options.instant,
    )
    path = data / "simulator.json"
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    return ServiceSpec(name="station", command=python("sandbox.station.server", "--config", str(path)))


def client_spec(folder: Path, ports: Mapping[str, int], env: Mapping[str, str]) -> ServiceSpec:
    """The computer at the demo station, enrolled with the gateway server on the first start."""
    data = folder / "client"
    data.mkdir(parents=True, exist_ok=True)
    server_folder, client_folder = folder / "oscore" / "server", folder / "oscore" / "client"
    config = demo_station.client_config(
        data_dir=str(data),
        oscore_dir=str(client_folder),
        server=f"{LOOPBACK}:{ports['coap']}",
        heartbeat_port=ports["heartbeat"],
    )
    path = data / "client.json"
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    # Once and for ever: a context that is made again would repeat its nonces; provision() leaves both halves
    # alone.
    provision(server_folder, client_folder, demo_station.STATION_CODE)
    return ServiceSpec(
        name="client", command=python("station_gateway.client.main", "--config", str(path)), env=env
    )


def own_specs(ports: Mapping[str, int], env: Mapping[str, str], options: StackOptions) -> list[ServiceSpec]:
    """API, codec server, workers and gateway server."""
    specs = [
        ServiceSpec(
            name="codec",
            command=python("workers.codec_server"),
            env=env,
            ready_url=f"{url(ports['codec'])}/healthz",
        ),
        ServiceSpec(
            name="worker",
            command=python("workers.main"),
            env=env,
            ready_url=f"{url(ports['worker_probe'])}/readyz",
        ),
        ServiceSpec(
            name="gateway",
            command=python("station_gateway.server.main"),
            env=env,
            ready_url=f"{url(ports['gateway_probe'])}/readyz",
        ),
        ServiceSpec(name="api", command=python("api.main"), env=env, ready_url=f"{url(ports['api'])}/readyz"),
    ]
    for number in range(2, options.workers + 1):
        further = {**env, "JIAZHU_WORKER_PROBE_PORT": "0"}
        specs.append(ServiceSpec(name=f"worker-{number}", command=python("workers.main"), env=further))
    return specs
