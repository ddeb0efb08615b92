"""Columns of the lists: money, quantities, times and coded words, all shown in Chinese and never edited."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette_admin.fields import BaseField, DateTimeField, EnumField, IntegerField, StringField
from starlette_admin.types import RequestAction

from api.console.labels import amount_with_unit, money_text, price_text, time_text


@dataclass
class YuanField(IntegerField):
    """An amount in fen, shown in yuan. No filter: people would type yuan where the column counts fen."""

    filters: list[Any] | None = field(default_factory=list)
    searchable: bool | None = False
    list_template: str = "console/cell_number.html"

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """Return the text; exports carry it as shown."""
        return money_text(value)


@dataclass
class QuantityField(IntegerField):
    """A quantity in thousandths of the row's unit."""

    filters: list[Any] | None = field(default_factory=list)
    searchable: bool | None = False
    list_template: str = "console/cell_number.html"

    async def parse_obj(self, request: Request, obj: Any) -> Any:
        """Return the text at once, because the unit is another column of the row."""
        return amount_with_unit(getattr(obj, self.name), obj.unit)

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """Return the text."""
        return value


@dataclass
class PriceField(QuantityField):
    """A price in fen per the row's unit."""

    async def parse_obj(self, request: Request, obj: Any) -> Any:
        """Return the text at once, because the unit is another column of the row."""
        return price_text(getattr(obj, self.name), obj.unit)


@dataclass
class MomentField(DateTimeField):
    """A moment, shown in China's time, in exports too."""

    async def serialize_value(self, request: Request, value: datetime) -> str:
        """Return the text; lists leave the seconds out."""
        text = time_text(value)
        return text[:-3] if request.state.action == RequestAction.LIST else text


@dataclass
class WordField(EnumField):
    """A coded word with its Chinese label; a code without a label is shown as it is. `colours` by label."""

    labels: dict[str, str] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    list_template: str = "console/cell_word.html"
    detail_template: str = "console/cell_word.html"

    def __post_init__(self) -> None:
        self.choices = list(self.labels.items())
        super().__post_init__()

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """Return the label on every page and in exports."""
        return self.labels.get(value, value) or "—"


@dataclass
class LookupField(BaseField):
    """An id shown as the name that the view looked up for all rows at once (`request.state.names`)."""

    table: str = ""
    searchable: bool | None = False
    filters: list[Any] | None = field(default_factory=list)

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """Return the name, or the number when it was not looked up."""
        names: dict[str, dict[int, str]] = getattr(request.state, "names", {})
        return names.get(self.table, {}).get(value, f"#{value}")


@dataclass
class TextCell(StringField):
    """A text that is computed from the row by `getter`, so it can be neither searched nor sorted by."""

    searchable: bool | None = False
    orderable: bool | None = False
    filters: list[Any] | None = field(default_factory=list)
