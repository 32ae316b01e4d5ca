"""What the commands that wire buckets share: their options, and the words they report in."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer

from app.domain.errors import GatewayError, SettingsError

Bucket = Annotated[str, typer.Argument(metavar="s3://BUCKET", help="The bucket.")]
QueueName = Annotated[str, typer.Option("--queue", help="Name of the queue; made if it is not there.")]
TopicName = Annotated[
    str | None,
    typer.Option("--topic", help="Name of a topic between the bucket and the queue, for others to subscribe."),
]
Prefix = Annotated[str, typer.Option(help="Only keys that begin with this.")]
Suffix = Annotated[str, typer.Option(help="Only keys that end with this.")]
EndpointUrl = Annotated[str | None, typer.Option(help="Where AWS is called, for what speaks like it.")]
Region = Annotated[str | None, typer.Option(help="The bucket's region; default: the AWS default chain's.")]
Account = Annotated[str | None, typer.Option(help="The account that owns the bucket; default: the caller's.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]

_INTERRUPTED: Final = 130
_T = TypeVar("_T")


class WiringError(GatewayError):
    """AWS said no."""


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's work; what AWS says no to becomes one sentence. Raises GatewayError."""
    from app.aws.errors import AwsError  # noqa: PLC0415 -- --help need not load it
    from app.domain.errors import SourceError  # noqa: PLC0415 -- likewise

    try:
        return asyncio.run(work)
    except AwsError as error:
        raise WiringError(_sentence(error.code, error.message)) from error
    except SourceError as error:
        raise WiringError(str(error)) from error


def _sentence(code: str, message: str) -> str:
    advice = {
        "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role.",
        "NoRegionError": "Name one with --region or AWS_DEFAULT_REGION.",
        "NoSuchBucket": "Check the bucket's name and --region.",
        "AccessDenied": "The caller needs rights on the bucket, the queue and its policy; see docs/connect.md.",
        "EndpointConnectionError": "Is --endpoint-url right, and is it up?",
    }.get(code, "")
    return f"AWS says {code}: {message.rstrip('.')}.{' ' + advice if advice else ''}"


def events_in(text: str | None) -> tuple[str, ...] | None:
    """Read events separated by commas, with or without `s3:`. Raises SettingsError."""
    if text is None:
        return None
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise SettingsError("--events names at least one event, such as s3:ObjectCreated:*.")
    return tuple(each if each.startswith("s3:") else f"s3:{each}" for each in names)
