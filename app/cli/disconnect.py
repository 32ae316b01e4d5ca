"""`bucketpost disconnect`: take out what connect put in, and nothing of others. What is decided: app/wiring."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.wiring_options import BucketUrl, DryRun, EndpointUrl, Prefix, QueueName, Region, Suffix, access
from app.domain.ids import public_id
from app.settings import read_settings
from app.wiring.wish import Wish, wish

if TYPE_CHECKING:
    from app.aws.access import Access
    from app.wiring.plan_back import BackPlan
    from app.wiring.snapshot import Snapshot


def disconnect(  # noqa: PLR0913 -- one for each option
    bucket: BucketUrl,
    *,
    queue: QueueName,
    topic: Annotated[
        str | None, typer.Option(metavar="NAME", help="The topic, where the bucket's rule does not name it any more.")
    ] = None,
    prefix: Prefix = "",
    suffix: Suffix = "",
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    delete_queue: Annotated[
        bool, typer.Option("--delete-queue", help="Delete the queue too, with all that is in it, and the source.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Undo `connect`: the bucket's rule, the policy that let it in, the subscription; the queue stays.

    The source stays too as long as messages wait in its queue or others may send there; run this again then.
    """
    wanted = wish(bucket, queue=queue, topic=topic, prefix=prefix, suffix=suffix, encodes_filters=False)
    where = access(region=region, endpoint_url=endpoint_url)
    work = _show if dry_run else _disconnect
    asyncio.run(work(wanted, where, deletes_queue=delete_queue))


async def _show(wanted: Wish, where: "Access", *, deletes_queue: bool) -> None:
    from app.wiring.calls import opened_for
    from app.wiring.look import look
    from app.wiring.plan_back import plan_disconnect

    async with opened_for(wanted.bucket, where) as calls:
        seen = await look(calls, wanted)
    plan = plan_disconnect(seen, wanted, deletes_queue=deletes_queue)
    _tell(plan, seen)
    typer.echo("Nothing was changed: this was a dry run." if plan.steps else "Nothing to change at AWS.")


async def _disconnect(wanted: Wish, where: "Access", *, deletes_queue: bool) -> None:
    from app.cli import source_rows
    from app.short_commands import open_database
    from app.wiring import show
    from app.wiring.calls import opened_for
    from app.wiring.carry_out import carry_back
    from app.wiring.look import look
    from app.wiring.plan_back import plan_disconnect

    async with open_database(read_settings()) as database:
        async with opened_for(wanted.bucket, where) as calls:
            seen = await look(calls, wanted)
            plan = plan_disconnect(seen, wanted, deletes_queue=deletes_queue)
            _tell(plan, seen)
            await carry_back(calls, plan.steps, done=lambda step: typer.echo(f"done  {show.short(step)}"))
        source = await source_rows.reader_of(database, seen.queue.url) if seen.queue else None
        if source is not None and plan.keeps_source is None:
            await source_rows.take_out(database, source)
            typer.echo(f"done  - source {public_id('src', source.id)}; events heard from it stay")
        elif source is not None:
            typer.echo(f"The source {public_id('src', source.id)} stays: {plan.keeps_source}.")
        elif not plan.steps:
            typer.echo("Nothing to change.")


def _tell(plan: "BackPlan", seen: "Snapshot") -> None:
    from app.wiring import show
    from app.wiring.plan import SetTopicPolicy

    for step in plan.steps:
        typer.echo(f"  {show.line(step)}")
        holder = seen.topic if isinstance(step, SetTopicPolicy) else seen.queue
        for each in show.details(step, policy_before=holder.policy if holder else ""):
            typer.echo(f"      {each}")
    for note in plan.notes:
        typer.echo(f"note: {note}")
