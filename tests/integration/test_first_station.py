"""The SQL of docs/operations.md makes a station that the product can read: nobody has to guess a column."""

import re
from pathlib import Path

from sqlalchemy import text

from db.session import make_engine

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_documented_first_station_can_be_read(fresh_database_url: str) -> None:
    block = re.search(r"^```sql\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    engine = make_engine(fresh_database_url, pool_size=1)
    with engine.begin() as db:
        for statement in block[1].split(";\n"):
            if statement.strip():
                assert db.execute(text(statement)).rowcount == 1, statement
    with engine.connect() as db:
        found = db.execute(
            text(
                "SELECT o.code AS operator, s.code AS station, f.fp, n.number, n.unit, p.code AS product,"
                " r.price_fen_per_unit AS price, m.role FROM nozzle n JOIN fuelling_point f ON f.id = n.fuelling_point_id"
                " JOIN station s ON s.id = n.station_id JOIN operator o ON o.id = s.operator_id"
                " JOIN product p ON p.id = n.product_id JOIN price r ON r.product_id = p.id AND r.station_id = s.id"
                " JOIN staff m ON m.station_id = s.id"
            )
        ).one()
    engine.dispose()
    assert tuple(found) == ("OP001", "ST001", 33, 1, "L", "92", 735, "manager")
