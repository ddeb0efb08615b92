"""Alembic's environment: the database URL comes from the caller (`-x url=...`) or from the settings."""

import sys

from alembic import context
from sqlmodel import SQLModel

import db.tables as tables
from config.settings import Role, SettingsError, load
from db.session import make_engine

_ = tables
target_metadata = SQLModel.metadata


def _url() -> str:
    given = context.get_x_argument(as_dictionary=True).get("url")
    if given:
        return given
    try:
        return load(Role.DATABASE).require_database_url()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def run() -> None:
    """Migrate over one connection; a connection in `config.attributes` (tests) is used as it is."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = make_engine(_url(), pool_size=1)
    with engine.connect() as fresh:
        context.configure(connection=fresh, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
