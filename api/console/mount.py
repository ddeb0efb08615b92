"""Builds the console and hangs it into the API's application."""

import logging
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker
from starlette.middleware import Middleware
from starlette_admin import DropDown
from starlette_admin.contrib.sqlmodel import Admin
from starlette_admin.i18n import I18nConfig, TimezoneConfig

from api.console import labels
from api.console.auth import ConsoleAuth
from api.console.guard import ExpiredForm, InputGuard
from api.console.home import Home
from api.console.ports import ConsoleDeps
from api.console.views.money import Journals, Payments, Refunds, can_see_ledger
from api.console.views.orders import AllOrders, OrdersForPeople, UnpaidOrders
from api.console.views.places import FuellingPoints, Nozzles, Stations

BASE_URL = "/console"


def mount_console(app: FastAPI, deps: ConsoleDeps) -> None:
    """Serve the staff console at `/console`.

    Its pages read through read-only transactions: even a mistake in a view cannot write a row. Only the login
    writes, by its own connection; everything else that changes goes through `deps.commands`.
    """
    # The framework logs login names and form values at INFO and WARNING.
    logging.getLogger("starlette_admin").setLevel(logging.ERROR)
    reader = deps.engine.execution_options(postgresql_readonly=True)
    admin = Admin(
        sessionmaker(reader, class_=Session, expire_on_commit=False),
        title="加注 · 员工后台",
        base_url=BASE_URL,
        route_name="console",
        templates_dir=str(Path(__file__).with_name("templates")),
        index_view=Home(deps),
        auth_provider=ConsoleAuth(deps, BASE_URL),
        secret_key=deps.secret_key,
        middlewares=[Middleware(InputGuard), Middleware(ExpiredForm)],
        i18n_config=I18nConfig(default_locale="zh", language_cookie_name=None, language_header_name=None),
        timezone_config=TimezoneConfig(
            default_timezone="Asia/Shanghai", timezone_cookie_name=None, use_user_locale_timezone=False
        ),
    )
    admin.templates.env.globals.update(
        {"console_sandbox": deps.sandbox, "words": labels, "can_see_ledger": can_see_ledger}
    )
    admin.add_view(UnpaidOrders(deps))
    admin.add_view(OrdersForPeople(deps))
    admin.add_view(AllOrders(deps))
    admin.add_view(
        DropDown("资金", icon="fa-solid fa-coins", views=[Payments(deps), Refunds(deps), Journals(deps)])
    )
    admin.add_view(
        DropDown(
            "油站设备",
            icon="fa-solid fa-gas-pump",
            views=[Stations(deps), FuellingPoints(deps), Nozzles(deps)],
        )
    )
    admin.mount_to(app)
