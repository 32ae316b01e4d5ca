"""A role assumed with the process's own credentials, and again before what STS gave expires."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiobotocore.credentials import AioDeferredRefreshableCredentials
    from aiobotocore.session import AioSession

# Under this name the gateway's calls stand in CloudTrail and in a role's policy.
SESSION_NAME: Final = "bucketpost"


class AssumedRole:
    """What an AWS session asks for credentials: the library's own fetcher, which keeps them fresh, as a provider."""

    def __init__(self, role_arn: str, *, external_id: str | None, sts: Callable[..., Any], own: "AioSession") -> None:
        """Take the role, how an STS client is opened, and the session that finds the process's own credentials."""
        self._role_arn = role_arn
        self._external_id = external_id
        self._sts = sts
        self._own = own

    async def load_credentials(self) -> "AioDeferredRefreshableCredentials":
        """Give credentials that assume the role when they are first needed. Raises NoCredentialsError."""
        from aiobotocore.credentials import (  # noqa: PLC0415 -- imported when needed, see clients.py
            AioAssumeRoleCredentialFetcher,
            AioDeferredRefreshableCredentials,
        )
        from botocore.exceptions import NoCredentialsError  # noqa: PLC0415 -- likewise

        own = await self._own.get_credentials()
        if own is None:
            raise NoCredentialsError
        extra = {"RoleSessionName": SESSION_NAME}
        if self._external_id is not None:
            extra["ExternalId"] = self._external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=self._sts, source_credentials=own, role_arn=self._role_arn, extra_args=extra
        )
        return AioDeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
