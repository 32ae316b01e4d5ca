"""Options that connect, disconnect and doctor share, and what they come down to."""

import re
from typing import Annotated, Final

import typer

from app.aws.access import Access, is_aws
from app.domain.errors import SettingsError
from app.outbound.chosen import checked_url

BucketUrl = Annotated[str, typer.Argument(metavar="BUCKET", help="The bucket, as s3://BUCKET.")]
QueueName = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue, by its name.")]
Prefix = Annotated[str, typer.Option(help="Only keys that begin so.")]
Suffix = Annotated[str, typer.Option(help="Only keys that end so.")]
EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Where S3, SQS and SNS are called.", show_default="AWS")
]
Region = Annotated[str | None, typer.Option(help="The AWS region.", show_default="the bucket's")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]

_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")


def access(*, region: str | None, endpoint_url: str | None) -> Access:
    """Check where AWS is to be called. Raises SettingsError."""
    if region is not None and _REGION.fullmatch(region) is None:
        raise SettingsError(f"--region {region!r} is no region: write it like eu-west-1.")
    if endpoint_url is not None:
        try:
            checked_url(endpoint_url)
        except ValueError as error:
            raise SettingsError(f"--endpoint-url {error}.") from error
    return Access(region=region, endpoint_url=endpoint_url)


def encodes_filters(endpoint_url: str | None) -> bool:
    """Tell whether prefix and suffix are compared with encoded keys: S3 does, those who speak like it often do not."""
    return endpoint_url is None or is_aws(endpoint_url)
