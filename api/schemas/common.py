"""Types that several bodies share. Unknown members are refused, so that a misspelt one is noticed."""

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

MAX_FEN = 100_000_000
"""A million yuan: far above any fill, far below the columns' width."""

Fen = Annotated[int, Field(strict=True, ge=0, le=MAX_FEN, description="fen (1/100 yuan)")]
PositiveFen = Annotated[int, Field(strict=True, gt=0, le=MAX_FEN, description="fen (1/100 yuan)")]
StationCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", examples=["ST001"])]
NozzleNo = Annotated[int, Field(strict=True, ge=1, le=999, examples=[3])]
OrderNo = Annotated[str, Path(pattern=r"^[PS][A-Z2-7]{21}$", examples=["PABCDEFGHIJKLMNOPQRSTU"])]
Reason = Annotated[str, Field(min_length=2, max_length=200, pattern=r"\S", examples=["顾客已离开"])]


REFUND_NO_PATTERN = r"^[0-9A-Za-z-]{1,64}$"
RefundNo = Annotated[str, Field(pattern=REFUND_NO_PATTERN)]
MOST_REFUNDS = 300
"""More than the payments that an order may ask for, each returned twice."""


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(from_attributes=True)
