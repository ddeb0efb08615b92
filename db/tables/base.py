"""Naming convention of constraints, so that migrations can name what they change, and shared column types."""

from sqlalchemy import BigInteger
from sqlmodel import SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Big = BigInteger
"""Column type of money (fen) and quantities (thousandths): 32 bits end at 21 million yuan."""

Table = SQLModel
