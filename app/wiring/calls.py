"""The clients that a wiring needs, in the bucket's region, and one way to call: bounded, with errors as sentences."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from app.aws.access import Access, is_aws
from app.aws.clients import client
from app.aws.deadlines import answered
from app.aws.errors import AwsError
from app.domain.errors import SettingsError
from app.wiring.snapshot import Account

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sns import SNSClient
    from types_aiobotocore_sqs import SQSClient

CALL_SECONDS: Final = 15.0
# Who calls is not told by every emulator; this is the account most of them pretend to.
EMULATED_ACCOUNT: Final = "000000000000"

_NO_CREDENTIALS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"})
_WRONG_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "403", "Forbidden"}
)
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "404"})

_T = TypeVar("_T")


class CallRefused(AwsError):  # noqa: N818 -- names what happened, reads well in except
    """A call that AWS refused, as a sentence that names it."""

    def __init__(self, action: str, error: AwsError) -> None:
        """Keep AWS's own code and message, and say what was tried."""
        self.action = action
        super().__init__(error.code, error.message, status=error.status)
        self.args = (_sentence(action, error),)

    @property
    def is_denied(self) -> bool:
        """Tell whether the caller may not do this, rather than that it cannot be done."""
        return self.code in _DENIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Clients of one region and one identity, and who that is."""

    access: Access
    account: Account
    s3: "S3Client"
    sqs: "SQSClient"
    sns: "SNSClient"

    async def __call__(self, action: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """Make one call, named as IAM names it ("sqs:GetQueueUrl"). Raises CallRefused, SourceError, SettingsError."""
        return await called(action, work, access=self.access)


async def called(action: str, work: Callable[[], Awaitable[_T]], *, access: Access) -> _T:
    """Make one call, in bounded time and with AWS's refusal as a sentence."""
    try:
        return await answered(work, within=CALL_SECONDS, where=access.endpoint_url or "AWS")
    except AwsError as error:
        if error.code == "NoRegionError":
            raise SettingsError("No AWS region is known: give --region, or set AWS_DEFAULT_REGION.") from error
        if error.code in ("ProfileNotFound", "ConfigParseError", "ConfigNotFound"):
            raise SettingsError(f"The AWS configuration cannot be used: {error.message}") from error
        raise CallRefused(action, error) from error


@asynccontextmanager
async def opened(access: Access) -> AsyncIterator[Calls]:
    """Open clients of the region of `access`, and ask who calls."""
    async with AsyncExitStack() as stack:
        s3, sqs, sns, sts = [
            await called(f"{name}:*", lambda name=name: _entered(stack, name, access), access=access)  # type: ignore[misc]  # a lambda's default is not inferred
            for name in ("s3", "sqs", "sns", "sts")
        ]
        account = await _account(sts, access, region=str(sqs.meta.region_name))
        yield Calls(access=access, account=account, s3=s3, sqs=sqs, sns=sns)


@asynccontextmanager
async def opened_for(bucket: str, access: Access) -> AsyncIterator[Calls]:
    """Open clients of the bucket's region. Raises SettingsError when another one was asked for."""
    region = await _region_of(bucket, access)
    async with opened(replace(access, region=region)) as calls:
        yield calls


async def _entered(stack: AsyncExitStack, name: str, access: Access) -> Any:
    return await stack.enter_async_context(client(name, access))


async def _region_of(bucket: str, access: Access) -> str:
    async def ask() -> str:
        async with client("s3", access) as s3:
            found = await s3.get_bucket_location(Bucket=bucket)
        # The oldest regions have names of their own here.
        return {"": "us-east-1", "EU": "eu-west-1"}.get(found.get("LocationConstraint") or "", "") or str(
            found["LocationConstraint"]
        )

    try:
        region = await called("s3:GetBucketLocation", ask, access=access)
    except CallRefused as error:
        if error.code in _NO_BUCKET:
            raise SettingsError(f"There is no bucket {bucket}{_at(access)}.") from error
        if error.is_denied and access.region is not None:
            return access.region
        raise
    if access.region in (None, region):
        return region
    if access.endpoint_url is not None and not is_aws(access.endpoint_url):
        # What speaks like S3 often knows no regions; the operator does.
        return str(access.region)
    raise SettingsError(
        f"The bucket {bucket} is in {region}, not in {access.region}, and S3 sends to queues of its own region only: "
        f"leave --region out."
    )


async def _account(sts: Any, access: Access, *, region: str) -> Account:
    try:
        told = await called("sts:GetCallerIdentity", sts.get_caller_identity, access=access)
        return Account(id=str(told["Account"]), region=region, partition=str(told["Arn"]).split(":")[1])
    except (CallRefused, KeyError, IndexError):
        if access.endpoint_url is None or is_aws(access.endpoint_url):
            raise
        return Account(id=EMULATED_ACCOUNT, region=region, is_known=False)


def _at(access: Access) -> str:
    return f" at {access.endpoint_url}" if access.endpoint_url else ""


def _sentence(action: str, error: AwsError) -> str:
    told = " ".join(f"{error.code}: {error.message}".split())[:600]
    if error.code in _NO_CREDENTIALS:
        return (
            "No AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run "
            f"where a role gives them. ({told})"
        )
    if error.code in _WRONG_CREDENTIALS:
        return f"The AWS credentials are not accepted for {action} ({told})"
    if error.code in _DENIED:
        return f"{action} is not allowed for these credentials; whoever wires a bucket needs it. ({told})"
    if error.status is None:
        return f"{action} got no answer ({told}). Is --endpoint-url right, and can it be reached from here?"
    return f"{action} was refused. {told}"
