"""WeChat's own scenarios: pay codes, payers' timing, refunds' ends, notifications, the mini-program host."""

import threading
from collections.abc import Iterator

import pytest

from adapters.miniprogram.client import MiniProgramClient
from adapters.miniprogram.errors import (
    LoginCodeInvalidError,
    MessageInvalidError,
    MiniProgramBusyError,
    MiniProgramConfigError,
    MiniProgramError,
    MiniProgramRateLimitError,
    PhoneCodeInvalidError,
    RiskUserError,
    SubscribeRefusedError,
)
from adapters.payments.wechat.errors import NotificationRejectedError, RejectReason
from adapters.payments.wechat.notification import Notification, NotificationVerifier
from contracts.payment import AttemptRef
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind
from tests.contract.payment_channel_suite import TOTAL, assert_paid, attempt, refund_of
from tests.contract.wechat_rigs import WeChatRig, in_process, over_http


@pytest.fixture(params=["in_process", "over_http"])
def rig(request: pytest.FixtureRequest) -> Iterator[WeChatRig]:
    with {"in_process": in_process, "over_http": over_http}[request.param]() as rig:
        yield rig


def code(rig: WeChatRig, scenario: str) -> AttemptRef:
    return attempt(rig, f"CODE{scenario}", method=PayMethod.WECHAT_CODE, payer=f"13000000000000{scenario}")


class TestPayCode:
    @pytest.mark.parametrize("scenario", ["0000", "0050"])
    def test_paid_at_once(self, rig: WeChatRig, scenario: str) -> None:
        outcome = rig.channel.charge_code(code(rig, scenario))
        assert_paid(outcome)
        assert outcome.payer_amount_fen == (TOTAL - 500 if scenario == "0050" else TOTAL)

    @pytest.mark.parametrize("scenario", ["0001", "0002", "0003", "0040"])
    def test_definite_refusals(self, rig: WeChatRig, scenario: str) -> None:
        outcome = rig.channel.charge_code(code(rig, scenario))
        assert (outcome.kind, outcome.signed, outcome.new_attempt_allowed) == (OutcomeKind.FAILED, True, True)

    @pytest.mark.parametrize(
        ("scenario", "wait_s", "end"),
        [
            ("0010", 10, OutcomeKind.SUCCEEDED),
            ("0011", 10, OutcomeKind.FAILED),
            ("0012", 45, OutcomeKind.FAILED),
        ],
    )
    def test_r18_r19_password(self, rig: WeChatRig, scenario: str, wait_s: int, end: OutcomeKind) -> None:
        ref = code(rig, scenario)
        assert rig.channel.charge_code(ref).kind is OutcomeKind.PENDING
        assert rig.channel.query(ref).kind is OutcomeKind.PENDING
        rig.advance(wait_s)
        assert rig.channel.query(ref).kind is end

    @pytest.mark.parametrize("scenario", ["0020", "0022", "0060", "0061", "0062", "0063"])
    def test_r23_unknown_but_paid(self, rig: WeChatRig, scenario: str) -> None:
        ref = code(rig, scenario)
        assert rig.channel.charge_code(ref).kind is OutcomeKind.UNKNOWN
        assert_paid(rig.channel.query(ref))

    def test_r24_not_found_then_paid(self, rig: WeChatRig) -> None:
        ref = code(rig, "0023")
        assert rig.channel.charge_code(ref).kind is OutcomeKind.UNKNOWN
        assert rig.channel.query(ref).kind is OutcomeKind.NOT_FOUND
        rig.advance(8)
        assert_paid(rig.channel.query(ref))

    def test_unknown_and_never_created(self, rig: WeChatRig) -> None:
        ref = code(rig, "0021")
        assert rig.channel.charge_code(ref).kind is OutcomeKind.UNKNOWN
        assert rig.channel.query(ref).kind is OutcomeKind.NOT_FOUND
        assert rig.channel.reverse(ref).kind is CloseKind.NOT_FOUND

    def test_bank_error_then_password_then_paid(self, rig: WeChatRig) -> None:
        ref = code(rig, "0024")
        assert rig.channel.charge_code(ref).kind is OutcomeKind.UNKNOWN
        assert rig.channel.query(ref).kind is OutcomeKind.PENDING
        rig.advance(20)
        assert_paid(rig.channel.query(ref))

    def test_rate_limit_then_paid_with_the_same_bytes(self, rig: WeChatRig) -> None:
        ref = code(rig, "0041")
        kinds = [rig.channel.charge_code(ref).kind for _ in range(3)]
        assert kinds == [OutcomeKind.UNKNOWN, OutcomeKind.UNKNOWN, OutcomeKind.SUCCEEDED]

    def test_r25_a_repeated_charge_is_unknown_then_paid(self, rig: WeChatRig) -> None:
        ref = code(rig, "0000")
        rig.channel.charge_code(ref)
        assert rig.channel.charge_code(ref).kind is OutcomeKind.UNKNOWN
        assert_paid(rig.channel.query(ref))
        assert rig.paid_fen(ref.out_trade_no) == TOTAL

    def test_r20_r22_reverse_returns_money(self, rig: WeChatRig) -> None:
        """13: the payer pays at the very moment of the reversal; 0000: paid before."""
        for scenario in ("0013", "0000"):
            ref = code(rig, scenario)
            rig.channel.charge_code(ref)
            assert rig.channel.close(ref).kind is CloseKind.MUST_REVERSE
            assert rig.channel.reverse(ref).kind is CloseKind.UNKNOWN  # not within 15 s
            rig.advance(15)
            assert rig.channel.reverse(ref).kind is CloseKind.CLOSED
            assert rig.channel.reverse(ref).kind is CloseKind.CLOSED
            assert rig.channel.query(ref).trade_state == "REVOKED"
            assert rig.paid_fen(ref.out_trade_no) == rig.refunded_fen(ref.out_trade_no) == TOTAL

    def test_r21_reverse_fails_twice(self, rig: WeChatRig) -> None:
        ref = code(rig, "0030")
        rig.channel.charge_code(ref)
        rig.advance(15)
        kinds = [rig.channel.reverse(ref).kind for _ in range(3)]
        assert kinds == [CloseKind.UNKNOWN, CloseKind.UNKNOWN, CloseKind.CLOSED]


class TestPrepaid:
    def test_r10_paid_during_the_close(self, rig: WeChatRig) -> None:
        ref = attempt(rig, "RACE000001", payer="oPayer_race")
        rig.channel.create(ref)
        assert rig.channel.close(ref).kind is CloseKind.ALREADY_PAID
        assert_paid(rig.channel.query(ref))

    def test_r09_paid_late(self, rig: WeChatRig) -> None:
        ref = attempt(rig, "LATE000001", payer="oPayer_late30")
        rig.channel.create(ref)
        assert rig.channel.query(ref).kind is OutcomeKind.PENDING
        rig.advance(30)
        assert_paid(rig.channel.query(ref))

    def test_wrong_openid_is_a_definite_failure(self, rig: WeChatRig) -> None:
        outcome = rig.channel.create(attempt(rig, "BADOPEN001", payer="oPayer_badopenid"))
        assert (outcome.kind, outcome.new_attempt_allowed) == (OutcomeKind.FAILED, False)

    def test_r54_coupons_do_not_change_the_total(self, rig: WeChatRig) -> None:
        ref = attempt(rig, "COUPON0001", payer="oPayer_coupon")
        rig.channel.create(ref)
        outcome = rig.channel.query(ref)
        assert_paid(outcome)
        assert outcome.payer_amount_fen == TOTAL - 500


class TestRefunds:
    @pytest.mark.parametrize(
        ("mark", "kind"),
        [
            ("abnormal", RefundKind.ABNORMAL),
            ("closed", RefundKind.CLOSED),
            ("slow=3600", RefundKind.PROCESSING),
        ],
    )
    def test_ends(self, rig: WeChatRig, mark: str, kind: RefundKind) -> None:
        ref = attempt(rig, "REFUND0001", payer="oPayer_ok")
        rig.channel.create(ref)
        request = refund_of(ref, 5_000, f"[SIM:{mark}]余额")
        assert rig.channel.refund(request).kind is RefundKind.PROCESSING
        rig.advance(60)
        assert rig.channel.query_refund(request).kind is kind

    @pytest.mark.parametrize(
        ("mark", "first"),
        [
            ("not_enough", RefundKind.INSUFFICIENT),
            ("syserr_done", RefundKind.UNKNOWN),
            ("syserr_not", RefundKind.UNKNOWN),
            ("lost", RefundKind.UNKNOWN),
        ],
    )
    def test_r27_r28_same_number_again(self, rig: WeChatRig, mark: str, first: RefundKind) -> None:
        ref = attempt(rig, "REFUND0002", payer="oPayer_ok")
        rig.channel.create(ref)
        request = refund_of(ref, 5_000, f"[SIM:{mark}]余额")
        assert rig.channel.refund(request).kind is first
        assert rig.channel.refund(request).kind is RefundKind.PROCESSING
        rig.advance(60)
        assert rig.channel.query_refund(request).kind is RefundKind.SUCCEEDED
        assert rig.refunded_fen(ref.out_trade_no) == 5_000


class TestNotifications:
    @pytest.fixture
    def judge(self, rig: WeChatRig) -> NotificationVerifier:
        keys = rig.world.material
        return NotificationVerifier(keys=rig.core.keys, mchid=keys.mchid, appid=keys.appid)

    def drained(self, rig: WeChatRig) -> list[tuple[str, dict[str, str], bytes]]:
        assert rig.world.couriers.drain(10)
        return rig.inbox.received

    def test_payment_and_refund(self, rig: WeChatRig, judge: NotificationVerifier) -> None:
        ref = attempt(rig, "NOTIFY0001", payer="oPayer_ok")
        rig.channel.create(ref)
        rig.channel.refund(refund_of(ref, 5_000))
        rig.advance(60)
        events: list[Notification] = []
        for url, headers, raw in self.drained(rig):
            event = judge.verify(headers, raw)
            assert url.endswith("refund" if event.event_type.startswith("REFUND") else "pay")
            events.append(event)
        assert [event.event_type for event in events] == ["TRANSACTION.SUCCESS", "REFUND.SUCCESS"]
        assert [event.amount_fen for event in events] == [TOTAL, 5_000]
        assert {event.out_trade_no for event in events} == {"NOTIFY0001"}
        assert events[0].transaction_id == rig.channel.query(ref).transaction_id
        assert events[1].out_refund_no == "NOTIFY0001Rrest"

    def test_duplicates_have_one_key(self, rig: WeChatRig, judge: NotificationVerifier) -> None:
        rig.channel.create(attempt(rig, "NOTIFY0002", payer="oPayer_dup"))
        rig.advance(60)
        events = [judge.verify(headers, raw) for _, headers, raw in self.drained(rig)]
        assert len(events) == 3
        assert len({event.dedupe_key for event in events}) == 1

    def test_tampered_then_genuine(self, rig: WeChatRig, judge: NotificationVerifier) -> None:
        rig.inbox.status = 401
        rig.channel.create(attempt(rig, "NOTIFY0003", payer="oPayer_tamper"))
        rig.advance(15)
        (_, bad_headers, bad), (_, headers, raw) = self.drained(rig)[:2]
        with pytest.raises(NotificationRejectedError) as caught:
            judge.verify(bad_headers, bad)
        assert caught.value.reason is RejectReason.BAD_SIGNATURE
        assert judge.verify(headers, raw).out_trade_no == "NOTIFY0003"

    def test_signed_by_the_platform_certificate(self, rig: WeChatRig) -> None:
        """A merchant in certificate mode downloads the key on the way."""
        keys = rig.world.material
        rig.core.keys.download = rig.core._certificates
        judge = NotificationVerifier(keys=rig.core.keys, mchid=keys.mchid, appid=keys.appid)
        rig.channel.create(attempt(rig, "NOTIFY0004", payer="oPayer_plat"))
        [(_, headers, raw)] = self.drained(rig)
        assert headers["Wechatpay-Serial"] == keys.platform_serial
        assert judge.verify(headers, raw).out_trade_no == "NOTIFY0004"


class TestMiniProgram:
    @pytest.fixture
    def client(self, rig: WeChatRig) -> MiniProgramClient:
        keys = rig.world.material
        base = rig.core._bases[0]
        if base.startswith("https://"):
            base = "https://api.weixin.qq.com"
        return MiniProgramClient(base, keys.appid, keys.appsecret)

    def test_login_phone_and_message(self, client: MiniProgramClient, rig: WeChatRig) -> None:
        session = client.code_to_session("ok:oDriver1")
        assert (session.openid, bool(session.unionid)) == ("oDriver1", True)
        assert client.phone_number("phone:13800138000") == "13800138000"
        client.send_subscribe_message(openid="oDriver1", template_id="T1", data={"thing1": "加油完成"})
        assert len(rig.world.miniapp.messages()) == 1

    @pytest.mark.parametrize(
        ("js_code", "kind"),
        [
            ("used", LoginCodeInvalidError),
            ("bad", LoginCodeInvalidError),
            ("busy", MiniProgramBusyError),
            ("freq", MiniProgramRateLimitError),
            ("risk", RiskUserError),
        ],
    )
    def test_login_errors(
        self, client: MiniProgramClient, js_code: str, kind: type[MiniProgramError]
    ) -> None:
        with pytest.raises(kind):
            client.code_to_session(js_code)

    def test_phone_and_message_errors(self, client: MiniProgramClient) -> None:
        with pytest.raises(PhoneCodeInvalidError):
            client.phone_number("ok:oDriver1")
        for openid, kind in (("o_refuse", SubscribeRefusedError), ("o_baddata", MessageInvalidError)):
            with pytest.raises(kind):
                client.send_subscribe_message(openid=openid, template_id="T1", data={"thing1": "x"})

    def test_wrong_secret(self, client: MiniProgramClient, rig: WeChatRig) -> None:
        wrong = MiniProgramClient(client._base, rig.world.material.appid, "wrong")
        with pytest.raises(MiniProgramConfigError):
            wrong.code_to_session("ok:oDriver1")

    def test_r80_expired_token_under_load(self, client: MiniProgramClient, rig: WeChatRig) -> None:
        """The sandbox's clock runs past the token's life while ours does not: 42001, one refresh for all."""
        client.phone_number("phone:13800138000")
        rig.advance(7201)
        got: list[str] = []
        threads = [
            threading.Thread(target=lambda: got.append(client.phone_number("phone:13800138000")))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)
        assert got == ["13800138000"] * 8
