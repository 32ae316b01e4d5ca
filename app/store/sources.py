"""Sources: rows in, rows out. How a source fares is noted by the left half, not here."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON, Source
from app.domain.ids import ID_BYTES, SourceId, TenantId
from app.store.epoch import bump_epoch
from app.store.place import Place, page_after
from app.store.schema import source


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSource:
    """What a caller says of a source; the rest is made here."""

    name: str
    kind: str
    config: Mapping[str, JSON]
    is_paused: bool = False
    token_hash: bytes | None = None


async def create(connection: AsyncConnection, tenant_id: TenantId, new: NewSource) -> Source:
    """Write a source down; it is `starting` until it was read from."""
    moment = await bump_epoch(connection)
    source_id = SourceId(secrets.token_bytes(ID_BYTES))
    await connection.execute(
        insert(source).values(
            id=source_id,
            tenant_id=tenant_id,
            name=new.name,
            kind=new.kind,
            config=dict(new.config),
            token_hash=new.token_hash,
            is_paused=new.is_paused,
            state="starting",
            created_at=moment,
            updated_at=moment,
        )
    )
    return Source(
        id=source_id,
        tenant_id=tenant_id,
        name=new.name,
        kind=new.kind,
        config=new.config,
        token_hash=new.token_hash,
        is_paused=new.is_paused,
        created_at=moment,
        updated_at=moment,
    )


async def find(connection: AsyncConnection, tenant_id: TenantId, source_id: SourceId) -> Source | None:
    """Give a source; None when there is none, or no more."""
    found = await connection.execute(_living().where(source.c.tenant_id == tenant_id, source.c.id == source_id))
    row = found.one_or_none()
    return None if row is None else _source(row)


async def list_page(
    connection: AsyncConnection, tenant_id: TenantId, *, limit: int, after: Place | None
) -> Sequence[Source]:
    """Give sources, newest first."""
    statement = page_after(
        _living().where(source.c.tenant_id == tenant_id),
        after,
        at=source.c.created_at,
        id_=source.c.id,
        limit=limit,
    )
    return [_source(row) for row in await connection.execute(statement)]


async def read_all(connection: AsyncConnection) -> Sequence[Source]:
    """Give the sources of every tenant."""
    return [_source(row) for row in await connection.execute(_living())]


async def change(connection: AsyncConnection, changed: Source) -> Source:
    """Write down what may change of a source: name, config, pause and token. Lock changes before reading it."""
    moment = await bump_epoch(connection)
    written = await connection.execute(
        update(source)
        .where(source.c.id == changed.id)
        .values(
            name=changed.name,
            config=dict(changed.config),
            is_paused=changed.is_paused,
            token_hash=changed.token_hash,
            updated_at=moment,
        )
        .returning(source)
    )
    return _source(written.one())


async def start_anew(connection: AsyncConnection, source_id: SourceId) -> None:
    """Forget how a source fared: what was said of it was about another config."""
    await connection.execute(
        update(source)
        .where(source.c.id == source_id)
        .values(state="starting", last_error=None, failing_since=None, stalled_at=None, stalled_by=None)
    )


async def delete(connection: AsyncConnection, tenant_id: TenantId, source_id: SourceId) -> bool:
    """Mark a source as deleted; False when there is none. Events heard from it stay."""
    moment = await bump_epoch(connection)
    marked = await connection.execute(
        update(source)
        .where(source.c.tenant_id == tenant_id, source.c.id == source_id, source.c.deleted_at.is_(None))
        .values(deleted_at=moment)
    )
    return bool(marked.rowcount)


def _living() -> Select[Any]:
    return select(source).where(source.c.deleted_at.is_(None))


def _source(row: Row[Any]) -> Source:
    return Source(
        id=SourceId(row.id),
        tenant_id=TenantId(row.tenant_id),
        name=row.name,
        kind=row.kind,
        config=row.config,
        token_hash=row.token_hash,
        is_paused=row.is_paused,
        state=row.state,
        last_error=row.last_error,
        last_received_at=row.last_received_at,
        last_event_at=row.last_event_at,
        test_event_at=row.test_event_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
