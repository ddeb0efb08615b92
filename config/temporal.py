"""The only place that connects to Temporal: one converter, one codec, one way to wait for the server."""

import asyncio
import dataclasses
import time
from functools import cache
from pathlib import Path

from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, TLSConfig

from config.payload_codec import AesGcmCodec
from config.payload_converter import PYDANTIC
from config.settings import Settings, SettingsError

_RETRY_S = 0.5


def data_converter(settings: Settings) -> DataConverter:
    """The pydantic converter; with keys set payloads, messages of failures and their traces are encrypted."""
    ring = settings.codec_key_ring
    if not ring:
        return PYDANTIC
    return dataclasses.replace(
        PYDANTIC,
        payload_codec=AesGcmCodec(ring),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


@cache
def _metrics_runtime(address: str) -> Runtime:
    """One runtime a process: the SDK opens the Prometheus port when it is made."""
    return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))


def _runtime(settings: Settings) -> Runtime | None:
    if not settings.temporal_metrics_port:
        return None
    return _metrics_runtime(f"{settings.probe_host}:{settings.temporal_metrics_port}")


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _tls(settings: Settings) -> TLSConfig | bool:
    if not settings.temporal_tls:
        return False
    return TLSConfig(
        server_root_ca_cert=_read(settings.temporal_tls_ca_path),
        client_cert=_read(settings.temporal_tls_cert_path),
        client_private_key=_read(settings.temporal_tls_key_path),
    )


async def connect(settings: Settings, *, identity: str | None = None) -> Client:
    """Connect, waiting up to `temporal_connect_timeout_s` for a server that is still starting.

    Raises SettingsError when it does not answer in that time. One client serves a whole process and event
    loop.
    """
    deadline = time.monotonic() + settings.temporal_connect_timeout_s
    while True:
        try:
            return await Client.connect(
                settings.temporal_address,
                namespace=settings.temporal_namespace,
                data_converter=data_converter(settings),
                identity=identity,
                runtime=_runtime(settings),
                tls=_tls(settings),
            )
        except (RuntimeError, RPCError) as error:
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"Temporal does not answer at {settings.temporal_address} (TEMPORAL_ADDRESS)"
                ) from error
            await asyncio.sleep(_RETRY_S)
