"""Bodies about stations and nozzles."""

from pydantic import Field

from api.schemas.common import Answer, Body
from api.schemas.orders import OrderOut


class OfferOut(Answer):
    """A product and its price in force (fen per unit)."""

    product_code: str = Field(examples=["92"])
    product_name: str = Field(examples=["92号汽油"])
    unit: str = Field(examples=["L"])
    price_fen_per_unit: int = Field(examples=[785])
    price_version: int = Field(examples=[4])


class StationOut(Answer):
    """A station in a list. `is_online` is false when its gateway has been silent for 30 s: no prepaid start then."""

    code: str = Field(examples=["ST001"])
    name: str
    city: str
    address: str
    latitude_e6: int = Field(description="GCJ-02, millionths of a degree", examples=[37870000])
    longitude_e6: int = Field(description="GCJ-02, millionths of a degree", examples=[112550000])
    distance_m: int | None = Field(default=None, description="from the given place, in metres")
    is_open: bool
    is_online: bool
    offers: list[OfferOut] = Field(default_factory=list)


class StationsOut(Answer):
    """Stations, nearest first when a place was given."""

    stations: list[StationOut]


class NozzleOut(Answer):
    """A nozzle. `state` is its fuelling point's (IFSF word, empty when unknown)."""

    number: int = Field(examples=[3])
    product_code: str
    product_name: str
    unit: str
    unit_text: str = Field(examples=["升"])
    is_open: bool
    is_free: bool
    prepaid_allowed: bool
    postpaid_allowed: bool
    price_fen_per_unit: int
    price_version: int
    state: str = Field(examples=["idle"])


class StationDetailOut(StationOut):
    """A station with its nozzles."""

    nozzles: list[NozzleOut]


class NozzleCodeBody(Body):
    """The text of a nozzle's QR code."""

    code: str = Field(min_length=1, max_length=128, examples=["JZ1.ST001.3.1.ABCDEFGHIJKLMNOP"])


class ResolvedNozzleOut(Answer):
    """What a nozzle's QR code leads to; `unpaid` is a finished sale there that waits for its money."""

    station: StationOut
    nozzle: NozzleOut
    unpaid: OrderOut | None = None
