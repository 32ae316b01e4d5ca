"""`bucketpost connect`: lead a bucket's events here, from looking to the test event. What is decided: app/wiring."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.wiring_options import (
    BucketUrl,
    DryRun,
    EndpointUrl,
    Prefix,
    QueueName,
    Region,
    Suffix,
    access,
    encodes_filters,
)
from app.domain.errors import SourceError
from app.domain.ids import public_id
from app.settings import read_settings
from app.wiring.wish import DEFAULT_EVENTS, Wish, wish

if TYPE_CHECKING:
    from app.aws.access import Access
    from app.domain.configuration import Source
    from app.settings import Settings
    from app.store.database import Database
    from app.wiring.calls import Calls
    from app.wiring.plan import Plan
    from app.wiring.snapshot import Queue, Snapshot


def connect(  # noqa: PLR0913 -- one for each option
    bucket: BucketUrl,
    *,
    queue: QueueName,
    topic: Annotated[
        str | None, typer.Option(metavar="NAME", help="Send over this SNS topic, which others can subscribe to.")
    ] = None,
    events: Annotated[str, typer.Option(help="S3's event names, separated by commas.")] = ",".join(DEFAULT_EVENTS),
    prefix: Prefix = "",
    suffix: Suffix = "",
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    dry_run: DryRun = False,
    wait: Annotated[float, typer.Option(min=0, max=3600, help="How many seconds to wait for S3's test event.")] = 60,
) -> None:
    """Lead a bucket's events here: queue, policy, the bucket's rule, the source; then wait for S3's test event."""
    wanted = wish(
        bucket,
        queue=queue,
        topic=topic,
        events=[each.strip() for each in events.split(",")],
        prefix=prefix,
        suffix=suffix,
        encodes_filters=encodes_filters(endpoint_url),
    )
    where = access(region=region, endpoint_url=endpoint_url)
    work = _show(wanted, where) if dry_run else _connect(wanted, where, wait_seconds=wait)
    asyncio.run(work)


async def _show(wanted: Wish, where: "Access") -> None:
    from app.wiring.calls import opened_for

    async with opened_for(wanted.bucket, where) as calls:
        _, plan = await _planned(calls, wanted)
    typer.echo("Nothing was changed: this was a dry run." if plan.steps else "Nothing to change at AWS.")


async def _connect(wanted: Wish, where: "Access", *, wait_seconds: float) -> None:
    from app.cli import source_rows
    from app.short_commands import open_database
    from app.wiring.calls import opened_for

    settings = read_settings()
    # The database first: nothing is made at AWS that could not be registered here.
    async with open_database(settings) as database:
        async with opened_for(wanted.bucket, where) as calls:
            seen, plan = await _planned(calls, wanted)
            known = await source_rows.reader_of(database, seen.queue.url) if seen.queue else None
            wired = await _carried_out(calls, wanted, plan)
            source, is_new = await source_rows.register(
                database,
                name=f"{wanted.bucket} by {wanted.queue}"[:200],
                queue_url=wired.url,
                region=calls.account.region,
                endpoint_url=where.endpoint_url,
            )
        if is_new:
            typer.echo(f"done  + source {public_id('src', source.id)}, which reads {wired.url}")
        elif not plan.steps:
            typer.echo(f"Nothing to change: all is wired, and source {public_id('src', source.id)} reads the queue.")
        await _hear(settings, database, known or source, is_written=plan.puts_rule, wait_seconds=wait_seconds)


async def _planned(calls: "Calls", wanted: Wish) -> "tuple[Snapshot, Plan]":
    from app.wiring.look import look
    from app.wiring.plan import plan_connect

    seen = await look(calls, wanted)
    plan = plan_connect(seen, wanted)
    versions = {"enabled": "versioned", "suspended": "versioning suspended", "never": "not versioned", None: "?"}
    typer.echo(f"s3://{wanted.bucket} in {seen.bucket.region}, {versions[seen.bucket.versioning]}")
    _tell(plan, seen)
    return seen, plan


def _tell(plan: "Plan", seen: "Snapshot") -> None:
    from app.wiring import show
    from app.wiring.plan import SetTopicPolicy

    for step in plan.steps:
        typer.echo(f"  {show.line(step)}")
        holder = seen.topic if isinstance(step, SetTopicPolicy) else seen.queue
        for each in show.details(step, policy_before=holder.policy if holder else ""):
            typer.echo(f"      {each}")
    for note in plan.notes:
        typer.echo(f"note: {note}")


async def _carried_out(calls: "Calls", wanted: Wish, plan: "Plan") -> "Queue":
    from app.wiring import show
    from app.wiring.carry_out import carry_out
    from app.wiring.look import find_queue

    await carry_out(calls, wanted, plan, done=lambda step: typer.echo(f"done  {show.short(step)}"))
    queue = await find_queue(calls, wanted.queue)
    if queue is None:
        raise SourceError(f"The queue {wanted.queue} was there a moment ago and is not now. Run this again.")
    return queue


async def _hear(
    settings: "Settings", database: "Database", source: "Source", *, is_written: bool, wait_seconds: float
) -> None:
    """Wait for the test event that follows from the rule's being written, reading the queue as `serve` does."""
    from app.cli.source_rows import test_event_came
    from app.short_commands import reading

    if source.is_paused:
        typer.echo(f'note: The source is paused: PATCH /v1/sources/{public_id("src", source.id)} {{"paused": false}}.')
        return
    was_heard = source.test_event_at is not None or source.last_received_at is not None
    if wait_seconds == 0 or (was_heard and not is_written):
        return
    typer.echo(f"Waiting up to {wait_seconds:g} s for S3's test event ...")
    async with reading(settings, database, _impatient(source)):
        came = await test_event_came(database, source.id, after=source.test_event_at, within_seconds=wait_seconds)
    if not came:
        raise SourceError(_silence(wait_seconds, is_written=is_written))
    typer.echo("S3's test event came through: what happens in the bucket arrives here. `bucketpost serve` reads it.")


def _impatient(source: "Source") -> "Source":
    """Give the source with short polls: the last one must end before the command does."""
    from dataclasses import replace

    return replace(source, config={**source.config, "wait_seconds": 1})


def _silence(seconds: float, *, is_written: bool) -> str:
    why = (
        "S3 may take some minutes, and another reader of the queue may have taken it."
        if is_written
        else "S3 sends one only when a rule is written, and none was written now; upload an object and see it arrive."
    )
    return (
        f"No test event came within {seconds:g} s. All is wired and stays so. {why} Check with `bucketpost doctor`, "
        f"that nothing else reads this queue, and that the key of an encrypted queue lets S3 in; then run this again."
    )
