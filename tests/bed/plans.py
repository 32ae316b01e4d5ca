"""What PostgreSQL did for a statement: its plan, as it was run, and the pages it touched."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import SelectBase

from tests.bed.stored import Stored


async def explain(stored: Stored, statement: SelectBase, *, mode: str) -> tuple[list[dict[str, Any]], int]:
    """Run a statement on PostgreSQL, prepared as the driver does; gives the nodes of its plan and the pages touched."""
    compiled = statement.compile(dialect=stored.database.engine.dialect)
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    arguments = f"({', '.join(map(in_sql, values))})" if values else ""
    async with stored.database.write() as connection:
        await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.exec_driver_sql(f"PREPARE guarded AS {compiled}")
        explained = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE guarded{arguments}"
        )
        plan: dict[str, Any] = explained.scalars().one()[0]["Plan"]
        await connection.exec_driver_sql("DEALLOCATE guarded")
    return list(nodes(plan)), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def in_sql(value: Any) -> str:
    """Write a value in SQL."""
    match value:
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
        case datetime():
            return f"'{value.isoformat()}'::timestamptz"
        case str():
            return f"'{value}'"
        case list():
            return f"ARRAY[{', '.join(map(in_sql, value))}]::bigint[]"
        case _:
            return str(value)
