"""Who asks: the key in `Authorization: Bearer KEY`, looked up at every request, so that a revoked one ends at once."""

from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.errors import unauthorized
from app.api.state import State
from app.domain.ids import TenantId
from app.store import keys

bearer = HTTPBearer(
    scheme_name="key", description="An API key: `bucketpost keys create --name N` makes one.", auto_error=False
)


async def tenant_of(
    state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> TenantId:
    """Tell whose key came with a request. Raises Problem."""
    if credentials is None:
        raise unauthorized(was_given=False)
    key = credentials.credentials.strip()
    # What has not even a key's form is turned down with the database away, too.
    if not keys.looks_like_key(key):
        raise unauthorized(was_given=True)
    async with state.database.read() as connection:
        tenant_id = await keys.find_tenant(connection, key)
    if tenant_id is None:
        raise unauthorized(was_given=True)
    return tenant_id


Tenant = Annotated[TenantId, Depends(tenant_of)]
"""The tenant whose key came with the request. A route that names it answers 401 to everybody else."""
