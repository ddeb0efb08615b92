"""The station's CoAP client: one OSCORE context, confirmable requests, UDP by default and TCP as the option."""

import asyncio
from pathlib import Path
from typing import Any

import aiocoap
from aiocoap import error as coap_error

from station_gateway.client.config import ClientConfig
from station_gateway.client.uplink import UplinkError
from station_gateway.protocols.uplink import coap

_ANSWER_REPEATS = 2
"""Repeats of a held answer that are waited for; one that is given up is asked for again, and nothing is lost by it."""


class CoapPoster:
    """Posts to the gateway server. A failure is only reported: retries belong to the outbox."""

    def __init__(self, config: ClientConfig, context: Any) -> None:
        scheme = "coap+tcp" if config.transport == coap.TCP else "coap"
        self._base = f"{scheme}://{config.server}/"
        self._context = context
        self._tuning = coap.tuning(ack_timeout_s=config.ack_timeout_s, max_retransmit=config.max_retransmit)
        self._span_s = coap.span_s(config.ack_timeout_s, config.max_retransmit)
        self._answer_span_s = coap.span_s(config.ack_timeout_s, _ANSWER_REPEATS)

    @classmethod
    async def open(cls, config: ClientConfig) -> "CoapPoster":
        """Load the OSCORE context and open the socket.

        Raises filelock.Timeout when another process uses the context, OSError, ValueError when it is damaged.
        """
        coap.quiet()
        security = coap.load_context(Path(config.oscore_dir), config.station_code)
        context = await aiocoap.Context.create_client_context(
            transports=coap.client_transports(config.transport)
        )
        context.client_credentials["*"] = security
        return cls(config, context)

    async def close(self) -> None:
        """Close the socket; every request that waits ends with UplinkError."""
        await coap.shutdown(self._context)

    def release(self) -> None:
        """Let go of the OSCORE folder; nothing can be sent any more."""
        coap.release_context(self._context.client_credentials.pop("*"))

    async def post(self, path: str, body: bytes, *, wait_s: float = 0.0) -> bytes:
        """Return the answer's body. Raises UplinkError on silence, on a refusal and on a broken protection.

        A held request is given up soon after its time: a server that was restarted has acknowledged it and forgotten
        it, and until the next one comes, no command reaches the station.
        """
        patience_s = wait_s + self._answer_span_s if wait_s else self._span_s
        message = aiocoap.Message(
            code=aiocoap.POST, uri=self._base + path, payload=body, transport_tuning=self._tuning
        )
        try:
            async with asyncio.timeout(patience_s):
                answer = await self._context.request(message, handle_blockwise=False).response
        except TimeoutError as error:
            raise UplinkError("no answer") from error
        except (coap_error.Error, OSError, ValueError) as error:
            raise UplinkError(f"{type(error).__name__}: {error}") from error
        if not answer.code.is_successful():
            raise UplinkError(f"refused: {answer.code}")
        return bytes(answer.payload)
