"""Columns of the tables as SQLAlchemy expressions: SQLModel types its attributes as plain values."""

from typing import Any, cast

from sqlalchemy import Table
from sqlmodel import SQLModel


def table_of(model: type[SQLModel]) -> Table:
    """Return the Core table behind a SQLModel class."""
    return cast(Table, cast(Any, model).__table__)
