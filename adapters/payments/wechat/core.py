"""The hardened transport below the `wechatpayv3` library, which names the endpoints; this sends and verifies.

Against the library's own transport it signs the very bytes and the very path that go out, always has
timeouts, never follows redirects, never repeats a request, checks time and signature of every answer that
carries one, and keeps no answer on itself, so one object serves all threads. Rules: WeChat Pay v3,
"签名生成" and "签名验证".
"""

import json
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import structlog
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError
from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3.type import RequestType

from adapters.payments.wechat.errors import (
    ForeignHostError,
    NoAnswerError,
    UnreachableError,
    UnsignedError,
    VerificationError,
)
from adapters.payments.wechat.keys import MAX_SKEW_S, SCHEME, Clock, KeyStore, private_key, wechat_headers

BASE_URL = "https://api.mch.weixin.qq.com"
STANDBY_URL = "https://api2.mch.weixin.qq.com"
TIMEOUT_S = (3.05, 10)
"""Connect and read limits. 3.05 is just above one TCP retransmission."""
USER_AGENT = "jiazhu-wechatpay/1"

_PADDING = PKCS1v15()
_DIGEST = SHA256()
_log = structlog.get_logger(__name__)


def epoch_seconds() -> int:
    """Return the wall clock in whole seconds."""
    return int(time.time())


class Reply(NamedTuple):
    """An answer. `body` is raw; `signed` means WeChat's signature over it was verified."""

    status: int
    body: bytes
    request_id: str
    signed: bool


def _never_sent(error: requests.ConnectionError) -> bool:
    """Whether no connection came about, so that the request cannot have been executed."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


class HardenedCore:
    """Sends signed requests of one merchant. Takes the place of the library's `Core`.

    With `public_key` and `public_key_id` WeChat answers in public-key mode; without them with its platform
    certificates, which are downloaded when first needed, never in the constructor.
    """

    def __init__(
        self,
        *,
        mchid: str,
        serial_no: str,
        private_key_pem: str | bytes,
        apiv3_key: str,
        apiv3_key_old: str = "",
        public_key_pem: str | bytes | None = None,
        public_key_id: str = "",
        more_public_keys: Mapping[str, str | bytes] | None = None,
        platform_certificates: Sequence[str | bytes] = (),
        download_certificates: bool | None = None,
        base_url: str = BASE_URL,
        standby_url: str = "",
        timeout_s: tuple[float, float] = TIMEOUT_S,
        clock: Clock = epoch_seconds,
        max_skew_s: int = MAX_SKEW_S,
        proxy: str = "",
    ) -> None:
        """Parse the keys once; raises ValueError when they do not fit together.

        `apiv3_key_old` still opens notifications during a key change; `more_public_keys` (by id) and
        `platform_certificates` still prove answers and notifications, none of them is asked for. `download_certificates` defaults to yes
        in certificate mode, no in public-key mode.
        """
        if (public_key_pem is None) != (not public_key_id):
            raise ValueError("public_key_pem and public_key_id belong together")
        self.mchid = mchid
        self._serial_no = serial_no
        self._private_key = private_key(private_key_pem)
        self._asked_serial = public_key_id
        self._bases = tuple(url.rstrip("/") for url in (base_url, standby_url) if url)
        self._hosts = frozenset(urlsplit(url)[:2] for url in self._bases)
        self._timeout_s = timeout_s
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}
        self._local = threading.local()
        self.clock = clock
        held = {
            **(more_public_keys or {}),
            **({} if public_key_pem is None else {public_key_id: public_key_pem}),
        }
        self.keys = KeyStore(
            apiv3_keys=[key.encode() for key in (apiv3_key, apiv3_key_old) if key],
            clock=clock,
            public_keys=held,
            platform_certificates=platform_certificates,
            max_skew_s=max_skew_s,
        )
        if download_certificates if download_certificates is not None else public_key_pem is None:
            self.keys.download = self._certificates

    def request(
        self,
        path: str,
        method: RequestType = RequestType.GET,
        data: Mapping[str, Any] | None = None,
        **_unused: object,
    ) -> Reply:
        """Serve the library's endpoint methods: `data` becomes JSON bytes once, those are signed and sent."""
        body = b"" if data is None else json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
        return self.send(method.value, path, body)

    def send(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Send one request with exactly these bytes and return its proved answer.

        An unsigned 4xx or 5xx is returned with `signed=False`. Raises UnreachableError, NoAnswerError and
        VerificationError (unsigned 2xx, wrong signature, unknown serial, stale time).
        """
        response = self._exchange(method, path, body)
        request_id = response.headers.get("Request-ID", "")
        if not wechat_headers(response.headers).get("signature"):
            if response.ok:
                status = response.status_code
                raise UnsignedError("unsigned success", request_id=request_id, http_status=status)
            return Reply(response.status_code, response.content, request_id, False)
        try:
            self.keys.verify(response.headers, response.content)
        except VerificationError as error:
            error.request_id, error.http_status = request_id, response.status_code
            _log.warning("wechat.answer.unproved", code=error.code, request_id=request_id)
            raise
        return Reply(response.status_code, response.content, request_id, True)

    def download(self, url: str) -> Reply:
        """Fetch a bill file: the request is signed, the answer is not (its hash was announced before).

        Raises ForeignHostError for a URL outside the configured hosts: strangers get no signature of ours.
        """
        parts = urlsplit(url)
        if parts[:2] not in self._hosts:
            raise ForeignHostError("download URL of a foreign host")
        response = self._exchange("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, b"")
        return Reply(response.status_code, response.content, response.headers.get("Request-ID", ""), False)

    def sign(self, data: Sequence[str], _sign_type: object = None) -> str:
        """Sign lines for the client (paySign): each line ends with a line feed."""
        return self._signature("".join(f"{line}\n" for line in data).encode())

    def _signature(self, message: bytes) -> str:
        return b64encode(self._private_key.sign(message, _PADDING, _DIGEST)).decode()

    def _authorization(self, method: str, path_qs: str, body: bytes) -> str:
        stamp, nonce = str(self.clock()), secrets.token_hex(16).upper()
        signature = self._signature(f"{method}\n{path_qs}\n{stamp}\n{nonce}\n".encode() + body + b"\n")
        return (
            f'{SCHEME} mchid="{self.mchid}",nonce_str="{nonce}",signature="{signature}",'
            f'timestamp="{stamp}",serial_no="{self._serial_no}"'
        )

    def _prepared(self, base: str, method: str, path: str, body: bytes) -> requests.PreparedRequest:
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        if body:
            headers["Content-Type"] = "application/json"
        if self._asked_serial:
            headers["Wechatpay-Serial"] = self._asked_serial
        prepared = requests.Request(method, base + path, headers=headers, data=body or None).prepare()
        # Signed after preparation: path_url is quoted exactly as it goes over the wire.
        prepared.headers["Authorization"] = self._authorization(method, prepared.path_url, body)
        return prepared

    def _exchange(self, method: str, path: str, body: bytes) -> requests.Response:
        """Try the base and, only when no connection came about, the standby."""
        for base in self._bases:
            prepared = self._prepared(base, method, path, body)
            try:
                return self._session().send(
                    prepared, timeout=self._timeout_s, allow_redirects=False, proxies=self._proxies
                )
            except requests.ConnectionError as error:
                if not _never_sent(error):
                    raise NoAnswerError(type(error).__name__) from error
                _log.warning("wechat.base.unreachable", base=base)
            except requests.RequestException as error:
                raise NoAnswerError(type(error).__name__) from error
        raise UnreachableError("no base could be reached")

    def _session(self) -> requests.Session:
        """One session a thread; the environment's proxies and netrc are not read on every call."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=4, max_retries=0))
            self._local.session = session
        return session

    def _certificates(self) -> tuple[bytes, Mapping[str, str]]:
        """Fetch the list of platform certificates; the key store proves it."""
        response = self._exchange("GET", "/v3/certificates", b"")
        if response.status_code != 200:
            raise VerificationError("no certificate list", http_status=response.status_code)
        return response.content, response.headers


class HardenedWeChatPay(WeChatPay):  # type: ignore[misc]  # the library has no types
    """The library's endpoint methods over the hardened core. Every method returns a `Reply`."""

    def __init__(self, *, core: Any, appid: str, notify_url: str) -> None:
        """Set what the endpoint methods read; the library's own constructor would build its own transport."""
        self._core = core
        self._type = WeChatPayType.MINIPROG
        self._mchid = core.mchid
        self._appid = appid
        self._notify_url = notify_url
        self._partner_mode = False
