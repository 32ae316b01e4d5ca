"""`bucketpost connect`: leads a bucket's events to a queue, which becomes a source. Twice changes nothing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.wiring_options import (
    Account,
    Bucket,
    DryRun,
    EndpointUrl,
    Prefix,
    QueueName,
    Region,
    Suffix,
    TopicName,
    events_in,
    run,
)
from app.settings import read_settings

if TYPE_CHECKING:
    from app.wiring.wanted import Wanted

_NOT_HEARD: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    wanted: "Wanted"
    endpoint_url: str | None
    region: str | None
    is_dry: bool
    wait_seconds: float


def connect(  # noqa: PLR0913 -- a command's options
    bucket: Bucket,
    queue: QueueName,
    *,
    topic: TopicName = None,
    events: Annotated[
        str | None,
        typer.Option(help="S3's events, separated by commas; default: created, removed, restored and expired objects."),
    ] = None,
    prefix: Prefix = "",
    suffix: Suffix = "",
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    account: Account = None,
    dry_run: DryRun = False,
    wait: Annotated[
        float, typer.Option(help="How long to wait for S3's test event, in seconds.", min=0, max=3600)
    ] = 60,
) -> None:
    """Lead a bucket's events to a queue, and register the queue as a source."""
    from app.wiring.wanted import DEFAULT_EVENTS, Wanted, bucket_in, checked, checked_endpoint  # noqa: PLC0415

    wanted = checked(
        Wanted(
            bucket=bucket_in(bucket),
            queue=queue,
            topic=topic,
            events=events_in(events) or DEFAULT_EVENTS,
            prefix=prefix,
            suffix=suffix,
            account=account,
        )
    )
    asked = _Asked(
        wanted=wanted,
        endpoint_url=checked_endpoint(endpoint_url),
        region=region,
        is_dry=dry_run,
        wait_seconds=wait,
    )
    raise typer.Exit(run(_connect(asked)))


async def _connect(asked: _Asked) -> int:
    from app.aws.access import Access  # noqa: PLC0415 -- likewise
    from app.connecting import hear_test_event, register_queue  # noqa: PLC0415 -- --help need not load SQLAlchemy
    from app.wiring.carrying_out import carry_out  # noqa: PLC0415 -- likewise
    from app.wiring.plan import plan  # noqa: PLC0415 -- likewise
    from app.wiring.snapshot import Aws, take_snapshot  # noqa: PLC0415 -- likewise

    async with Aws(Access(region=asked.region, endpoint_url=asked.endpoint_url)) as aws:
        snapshot = await take_snapshot(aws, asked.wanted)
        todo = plan(snapshot, asked.wanted)
        typer.echo("\n".join(todo.lines) if todo.lines else "Nothing to change at AWS.")
        if asked.is_dry:
            typer.echo("Nothing was changed: this was a dry run.")
            return 0
        queue_url = await carry_out(aws, snapshot, asked.wanted, todo)
    settings = read_settings()
    config = {"queue_url": queue_url, "region": snapshot.bucket.region, "endpoint_url": asked.endpoint_url}
    source_id, is_new = await register_queue(settings, name=asked.wanted.bucket, config=config)
    typer.echo(f"{'+' if is_new else ' '} source {source_id}: {queue_url}")
    typer.echo(f"Waiting up to {asked.wait_seconds:g} s for S3's test event…")
    if await hear_test_event(settings, source_id, within_seconds=asked.wait_seconds):
        typer.echo(
            f"Connected: s3://{asked.wanted.bucket} reaches {asked.wanted.queue}, and S3's test event came through."
        )
        return 0
    typer.echo(
        "Everything is wired, but S3's test event has not come through. A bucket's rule may take minutes to act; "
        f"`bucketpost doctor s3://{asked.wanted.bucket}` says what may be wrong.",
        err=True,
    )
    return _NOT_HEARD
