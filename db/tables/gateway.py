"""The gateway's own tables: commands to stations, the link to each station, the live view of fuelling points."""

from pydantic import AwareDatetime
from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from db.tables.base import Big


class GatewayCommand(SQLModel, table=True):
    """A command to a station, stored before it is sent; the command id is derived, so a retry finds it."""

    __tablename__ = "gateway_command"
    __table_args__ = (
        Index(
            "ix_gateway_command_open", "station_code", "created_at", postgresql_where=text("result IS NULL")
        ),
        Index(
            "ix_gateway_command_untold",
            "answered_at",
            postgresql_where=text("result IS NOT NULL AND told_at IS NULL"),
        ),
    )
    command_id: str = Field(primary_key=True, max_length=64)
    station_code: str = Field(max_length=32)
    order_no: str = Field(max_length=32)
    kind: str = Field(max_length=16)
    body: str = Field(sa_column=Column(Text, nullable=False))
    created_at: AwareDatetime
    expires_at: AwareDatetime
    result: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    """The edge's answer (JSON of CommandResult), once it is known."""
    answered_at: AwareDatetime | None = None
    told_at: AwareDatetime | None = None
    """When the order's workflow was told: by the waiting activity, or by a signal when the answer came late."""


class StationLink(SQLModel, table=True):
    """When a station was last heard of."""

    __tablename__ = "station_link"
    station_code: str = Field(primary_key=True, max_length=32)
    last_seen_at: AwareDatetime
    boot_epoch: int = Field(default=0, sa_type=Big)
    outbox_depth: int = Field(default=0)
    """How many records the station still has to send."""


class PointStateRow(SQLModel, table=True):
    """The live view of a fuelling point; running values are for display only and never billed."""

    __tablename__ = "point_state"
    station_code: str = Field(primary_key=True, max_length=32)
    node: int = Field(primary_key=True)
    fp: int = Field(primary_key=True)
    state: str = Field(max_length=24)
    nozzle: int | None = None
    running_amount_fen: int | None = Field(default=None, sa_type=Big)
    running_quantity_milli: int | None = Field(default=None, sa_type=Big)
    updated_at: AwareDatetime
