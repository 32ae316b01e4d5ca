"""Keys of the REST API: made, listed, revoked, looked up. A key itself is never written down, only its hash."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import DEFAULT_TENANT, ID_BYTES, ApiKeyId, TenantId
from app.store.columns import now
from app.store.epoch import lock_changes
from app.store.schema import api_key

PREFIX: Final = "bp_"
# 32 random bytes: 43 characters of URL-safe base64.
_RANDOM_BYTES: Final = 32
KEY_LENGTH: Final = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: everything but the key."""

    id: ApiKeyId
    tenant_id: TenantId
    name: str
    created_at: datetime
    revoked_at: datetime | None


async def create(
    connection: AsyncConnection, *, name: str, tenant_id: TenantId = DEFAULT_TENANT
) -> tuple[ApiKeyId, str]:
    """Make a key; gives its id and the key, which cannot be had again."""
    key_id, key = ApiKeyId(secrets.token_bytes(ID_BYTES)), PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    await connection.execute(
        insert(api_key).values(id=key_id, tenant_id=tenant_id, name=name, key_hash=_hash(key), created_at=now())
    )
    return key_id, key


async def create_first(connection: AsyncConnection, *, name: str) -> tuple[ApiKeyId, str] | None:
    """Make a key where there never was one; None otherwise. Of replicas that start together one makes it."""
    await lock_changes(connection)
    if (await connection.execute(select(api_key.c.id).limit(1))).first() is not None:
        return None
    return await create(connection, name=name)


async def list_all(connection: AsyncConnection) -> Sequence[ApiKey]:
    """Give every key there ever was, newest first."""
    found = await connection.execute(select(api_key).order_by(api_key.c.created_at.desc(), api_key.c.id))
    return [
        ApiKey(
            id=ApiKeyId(row.id),
            tenant_id=TenantId(row.tenant_id),
            name=row.name,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
        )
        for row in found
    ]


async def revoke(connection: AsyncConnection, key_id: ApiKeyId) -> bool:
    """End a key; False when there is none in use of this id."""
    ended = await connection.execute(
        update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=now())
    )
    return bool(ended.rowcount)


async def find_tenant(connection: AsyncConnection, key: str) -> TenantId | None:
    """Tell whose key this is; None when it is no key, or one revoked.

    The hash is what is looked up, so that how long it takes says nothing about any key.
    """
    found = await connection.execute(
        select(api_key.c.tenant_id).where(api_key.c.key_hash == _hash(key), api_key.c.revoked_at.is_(None))
    )
    tenant_id: int | None = found.scalar_one_or_none()
    return None if tenant_id is None else TenantId(tenant_id)


def looks_like_key(text: str) -> bool:
    """Tell whether a text has a key's form, so that anything else need not be looked up."""
    return len(text) == KEY_LENGTH and text.startswith(PREFIX) and text.isascii()


def _hash(key: str) -> bytes:
    # A random key of 256 bits needs no salt and no slow hash.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
