"""What every list of the console shares: rows of the person's own places only, and nothing that writes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import anyio.to_thread
from sqlalchemy import ColumnElement, Select, String, cast, false, func, or_, select, true
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.contrib.sqlmodel import ModelView
from starlette_admin.export.base import BaseExporter, ExportContext
from starlette_admin.export.csv import CsvExporter
from starlette_admin.filters import FilterGroup

from api.console.fields import TextCell
from api.console.names import look_up
from api.console.person import Person, person_of
from api.console.ports import ConsoleDeps

_MAX_ID = 2**31 - 1
T = TypeVar("T")


class ExcelCsv(CsvExporter):
    """CSV with the byte order mark without which Excel garbles Chinese."""

    async def generate(self, fields: list[Any], rows: list[dict[str, Any]]) -> bytes:
        """Return the file."""
        return b"\xef\xbb\xbf" + await super().generate(fields, rows)

    async def build_response(self, ctx: ExportContext) -> Response:
        """Return the download; its name comes from a form, and a header carries only plain ASCII as it is."""
        name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in ctx.filename)[:80]
        response: Response = await super().build_response(replace(ctx, filename=name))
        chinese = quote("".join(c for c in ctx.filename if c.isprintable())[:80], safe="")
        header = f"attachment; filename=\"{name}.csv\"; filename*=UTF-8''{chinese}.csv"
        response.headers["Content-Disposition"] = header
        return response


async def in_thread(request: Request, work: Callable[[Session], T]) -> T:
    """Run database work on the request's read-only session in a worker thread."""
    session: Session = request.state.session
    return await anyio.to_thread.run_sync(work, session)


class ConsoleView(ModelView):
    """A read-only list. `scope` decides which rows exist for a person: lists, searches, exports and pages alike."""

    search_columns: ClassVar[tuple[str, ...]] = ()
    actions = ("export",)
    row_actions: Sequence[str] | None = ("view",)
    exporters: Sequence[BaseExporter | str] = (ExcelCsv(escape_formulas=True),)
    page_size = 25
    column_visibility = False

    def __init__(self, model: type[Any], deps: ConsoleDeps) -> None:
        self.deps = deps
        stored = [f.name for f in self.fields if not isinstance(f, TextCell)]
        self.sortable_fields = self.searchable_fields = stored
        super().__init__(model)
        if self._pk_coerce is not int:
            # SQLModel's string type does not name its Python type to SQLAlchemy 2.1, and `object` takes no key.
            self._pk_coerce = str

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Return the condition that keeps a person to their own rows."""
        raise NotImplementedError

    def listed(self) -> ColumnElement[bool]:
        """Return which of the visible rows this list shows; pages and actions by key do not ask for it."""
        return true()

    def can_create(self, request: Request) -> bool:
        """Nothing is created here."""
        return False

    def can_edit(self, request: Request) -> bool:
        """Nothing is edited here."""
        return False

    def can_delete(self, request: Request) -> bool:
        """Nothing is deleted here."""
        return False

    def can_import(self, request: Request) -> bool:
        """Nothing is imported here."""
        return False

    def get_list_query(self, request: Request) -> Select[Any]:
        """Return the rows that the list shows."""
        return select(self.model).where(self.scope(person_of(request)), self.listed())

    def get_detail_query(self, request: Request) -> Select[Any]:
        """Return the visible rows, listed or not: a row may have left the list while a person looked at it."""
        return select(self.model).where(self.scope(person_of(request)))

    def get_count_query(self, request: Request) -> Select[Any]:
        """Return the number of rows that the list shows."""
        mine = self.scope(person_of(request))
        return select(func.count()).select_from(self.model).where(mine, self.listed())

    def get_search_query(self, request: Request, term: str) -> Any:
        """Search the columns named by `search_columns`, literally."""
        clauses = [
            cast(getattr(self.model, name), String).icontains(term, autoescape=True)
            for name in self.search_columns
        ]
        return or_(*clauses) if clauses else false()

    async def prepare(self, request: Request, rows: Sequence[Any]) -> None:
        """Look up what the columns need for all rows at once."""
        request.state.names = await in_thread(request, lambda db: look_up(db, rows))

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: FilterGroup | None = None,
    ) -> Sequence[Any]:
        """Return a page of rows with their names looked up."""
        rows: Sequence[Any] = await super().find_all(request, skip, limit, q, sorts, filters)
        await self.prepare(request, rows)
        return rows

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """Return a visible row, or None; a key that is no key of this table is just not there."""
        if not self._is_key(pk):
            return None
        row = await super().find_by_pk(request, pk)
        if row is not None:
            await self.prepare(request, [row])
        return row

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """Return the visible rows among the keys."""
        rows: Sequence[Any] = await super().find_by_pks(request, [pk for pk in pks if self._is_key(pk)])
        await self.prepare(request, rows)
        return rows

    def _is_key(self, pk: Any) -> bool:
        if pk is None:
            return False
        if self._pk_coerce is not int:
            return True
        text = str(pk)
        return text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_ID)) and int(text) <= _MAX_ID

    async def handle_row_action(self, request: Request, pk: Any, name: str) -> Response | None:
        """Run a row action; another station's row does not exist (404)."""
        if await self.find_by_pk(request, pk) is None:
            raise HTTPException(404)
        response: Response | None = await super().handle_row_action(request, pk, name)
        return response
