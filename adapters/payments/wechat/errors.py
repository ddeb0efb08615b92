"""What can go wrong below the business: transport, verification, notification. None of it speaks of money."""

from enum import StrEnum


class WeChatPayError(Exception):
    """Base of every error of the WeChat Pay transport; the trade behind it is UNKNOWN."""

    code = "TRANSPORT"

    def __init__(self, message: str, *, request_id: str = "", http_status: int = 0) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.http_status = http_status


class UnreachableError(WeChatPayError):
    """No connection could be made, so nothing was sent."""

    code = "UNREACHABLE"


class NoAnswerError(WeChatPayError):
    """The request may have been executed, its answer did not arrive (timeout, reset)."""

    code = "NO_ANSWER"


class ForeignHostError(WeChatPayError):
    """A URL that points elsewhere than the configured hosts: the merchant's signature is not sent there."""

    code = "FOREIGN_HOST"


class VerificationError(WeChatPayError):
    """An answer whose origin is not proved: unsigned success, wrong signature, stale time."""

    code = "BAD_SIGNATURE"


class UnsignedError(VerificationError):
    """A success without signature headers: forged, or a middle box answered."""

    code = "UNSIGNED"


class StaleError(VerificationError):
    """The signed time is more than the allowed skew away from our clock: a replay, or our clock is wrong."""

    code = "CLOCK_SKEW"


class UnknownSerialError(VerificationError):
    """Signed with a key that we do not hold."""

    code = "UNKNOWN_SERIAL"


class RejectReason(StrEnum):
    """Why a notification is refused."""

    PROBE = "probe"
    """WeChat's own test of our verification (`WECHATPAY/SIGNTEST/`): it must be refused."""
    MISSING_HEADERS = "missing_headers"
    STALE = "stale"
    UNKNOWN_SERIAL = "unknown_serial"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    DECRYPT_FAILED = "decrypt_failed"
    """Signed by WeChat but sealed with an APIv3 key that we do not hold (key change): it comes again."""
    WRONG_MERCHANT = "wrong_merchant"


_SERVER_SIDE = frozenset({RejectReason.DECRYPT_FAILED, RejectReason.UNKNOWN_SERIAL})
_UNPROVED = frozenset(
    {RejectReason.PROBE, RejectReason.MISSING_HEADERS, RejectReason.STALE, RejectReason.BAD_SIGNATURE}
)


class NotificationRejectedError(Exception):
    """A notification that must not be acted on."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason.value)
        self.reason = reason

    @property
    def http_status(self) -> int:
        """Return the status to answer with; never 2xx, so WeChat repeats an honest one."""
        if self.reason in _SERVER_SIDE:
            return 500
        return 401 if self.reason in _UNPROVED else 400
