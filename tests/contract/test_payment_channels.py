"""Every payment channel against the contract: WeChat over both fronts and in both key modes, and cash."""

from collections.abc import Iterator

import pytest

from adapters.payments.cash import CashChannel
from contracts.payment import PaymentOutcome
from domain.payment import PayMethod
from tests.contract.payment_channel_suite import ChannelSuite, RemoteChannelSuite, Rig
from tests.contract.wechat_rigs import WeChatRig, in_process, over_http


class TestWeChatInProcess(RemoteChannelSuite):
    """Public-key mode, by `responses` at WeChat's real addresses."""

    @pytest.fixture
    def rig(self) -> Iterator[WeChatRig]:
        with in_process() as rig:
            yield rig


class TestWeChatOverHttp(RemoteChannelSuite):
    """Public-key mode, over a socket."""

    @pytest.fixture
    def rig(self) -> Iterator[WeChatRig]:
        with over_http() as rig:
            yield rig


class TestWeChatNative(RemoteChannelSuite):
    """The QR code instead of the mini-program, over a socket."""

    @pytest.fixture
    def rig(self) -> Iterator[WeChatRig]:
        with over_http() as rig:
            rig.method = PayMethod.WECHAT_NATIVE
            yield rig


class TestWeChatPlatformCertificates(RemoteChannelSuite):
    """Platform-certificate mode: nothing is held at first, the certificate is downloaded on the way."""

    @pytest.fixture
    def rig(self) -> Iterator[WeChatRig]:
        with in_process(certificates=True) as rig:
            yield rig


class CashRig(Rig):
    """The counter: there is no outside world, the drawer is the book."""

    method = PayMethod.CASH

    def __init__(self) -> None:
        self.channel = CashChannel()
        self.drawer: dict[str, int] = {}

    def pay(self, outcome: PaymentOutcome) -> None:
        self.drawer[outcome.out_trade_no] = outcome.amount_fen

    def advance(self, seconds: int) -> None:
        """Nothing happens at a counter by itself."""

    def paid_fen(self, out_trade_no: str) -> int:
        return self.drawer[out_trade_no]

    def refunded_fen(self, out_trade_no: str) -> int:
        return 0

    def fault(self, phase: str, action: str, value: str = "") -> None:
        raise AssertionError("a counter has no network")


class TestCash(ChannelSuite):
    """Cash at the counter."""

    @pytest.fixture
    def rig(self) -> CashRig:
        return CashRig()
