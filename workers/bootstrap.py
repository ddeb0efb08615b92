"""The only wiring: settings become keys, engines, channels and activities."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from activities.order_money import OrderMoneyActivities
from activities.order_opening import OrderOpeningActivities
from activities.order_steps import OrderStepActivities
from activities.order_support import Clock
from activities.payments import PaymentActivities
from activities.ports import PaymentChannel, UnitOfWork
from adapters.miniprogram.client import MiniProgramClient
from adapters.payments.cash import CashChannel
from adapters.payments.wechat.channel import WeChatChannel
from adapters.payments.wechat.core import HardenedCore
from config.settings import Settings
from db.crypto import ColumnCipher
from db.session import make_engine
from db.unit_of_work import unit_of_work


def utc_now() -> datetime:
    """Return the present, UTC-aware."""
    return datetime.now(tz=UTC)


def wechat_core(settings: Settings) -> HardenedCore:
    """Return the WeChat Pay transport of the settings; keys are parsed once."""
    assert settings.wechat_merchant_private_key_path is not None
    assert settings.wechat_public_key_path is not None
    assert settings.wechat_apiv3_key is not None
    previous = settings.wechat_apiv3_key_previous
    return HardenedCore(
        mchid=settings.wechat_mchid or "",
        serial_no=settings.wechat_merchant_serial or "",
        private_key_pem=settings.wechat_merchant_private_key_path.read_bytes(),
        apiv3_key=settings.wechat_apiv3_key.get_secret_value(),
        apiv3_key_old=previous.get_secret_value() if previous else "",
        public_key_pem=settings.wechat_public_key_path.read_bytes(),
        public_key_id=settings.wechat_public_key_id or "",
        more_public_keys={key: path.read_bytes() for key, path in settings.wechat_public_key_files.items()},
        platform_certificates=[path.read_bytes() for path in settings.wechat_platform_certificate_files],
        base_url=settings.wechat_base_url,
        standby_url=settings.wechat_standby_base_url or "",
    )


def payment_channels(settings: Settings) -> dict[str, PaymentChannel]:
    """Return the channels by name."""
    base = settings.notify_base_url.rstrip("/")
    wechat = WeChatChannel(
        core=wechat_core(settings),
        appid=settings.wechat_appid or "",
        notify_url=f"{base}/v1/notify/wechat/pay",
        refund_notify_url=f"{base}/v1/notify/wechat/refund",
    )
    return {"wechat": wechat, "cash": CashChannel()}


def miniprogram(settings: Settings) -> MiniProgramClient:
    """Return the client of the mini-program's host."""
    assert settings.wechat_appsecret is not None
    return MiniProgramClient(
        settings.wechat_miniapp_base_url,
        settings.wechat_appid or "",
        settings.wechat_appsecret.get_secret_value(),
    )


def column_cipher(settings: Settings) -> ColumnCipher:
    """Return the cipher of encrypted columns."""
    return ColumnCipher(keys=settings.data_key_ring, index_key=settings.index_key_bytes)


def database(settings: Settings, application_name: str) -> Engine:
    """Return the engine of a process."""
    return make_engine(
        settings.require_database_url(),
        pool_size=settings.database_pool_size,
        application_name=application_name,
    )


def fill_activities(
    uow: UnitOfWork, channels: dict[str, PaymentChannel], clock: Clock = utc_now
) -> list[object]:
    """Return the activity objects of the fill queue; tests pass fakes."""
    return [
        OrderOpeningActivities(uow, channels, clock),
        OrderMoneyActivities(uow, clock),
        OrderStepActivities(uow, clock),
        PaymentActivities(channels),
    ]


def open_database(settings: Settings, engine: Engine) -> UnitOfWork:
    """Return what opens a transaction, with the cipher of the columns that name a person."""
    return unit_of_work(engine, column_cipher(settings))
