"""`bucketpost disconnect`: takes out what connect put in, and nothing of others."""

from typing import TYPE_CHECKING, Annotated

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
    run,
)
from app.settings import read_settings

if TYPE_CHECKING:
    from app.aws.access import Access
    from app.wiring.wanted import Wanted


def disconnect(  # noqa: PLR0913 -- a command's options
    bucket: Bucket,
    queue: QueueName,
    *,
    topic: TopicName = None,
    prefix: Prefix = "",
    suffix: Suffix = "",
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    account: Account = None,
    delete_queue: Annotated[
        bool, typer.Option("--delete-queue", help="Delete the queue too, with what is in it.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Undo connect: the bucket's rule, the policy's statement, the subscription; the source is paused."""
    from app.aws.access import Access  # noqa: PLC0415 -- --help need not load it
    from app.wiring.wanted import Wanted, bucket_in, checked, checked_endpoint  # noqa: PLC0415 -- likewise

    wanted = checked(
        Wanted(bucket=bucket_in(bucket), queue=queue, topic=topic, prefix=prefix, suffix=suffix, account=account)
    )
    access = Access(region=region, endpoint_url=checked_endpoint(endpoint_url))
    run(_disconnect(wanted, access, deletes_queue=delete_queue, is_dry=dry_run))


async def _disconnect(wanted: "Wanted", access: "Access", *, deletes_queue: bool, is_dry: bool) -> None:
    from app.connecting import retire_queue  # noqa: PLC0415 -- --help need not load SQLAlchemy
    from app.wiring.bucket_rules import rules_of  # noqa: PLC0415 -- likewise
    from app.wiring.carrying_out import take_back  # noqa: PLC0415 -- likewise
    from app.wiring.plan import rule_of  # noqa: PLC0415 -- likewise
    from app.wiring.snapshot import Aws, take_snapshot  # noqa: PLC0415 -- likewise

    async with Aws(access) as aws:
        snapshot = await take_snapshot(aws, wanted)
        if is_dry:
            ours = [each for each in rules_of(snapshot.bucket.configuration) if each.id == rule_of(snapshot, wanted).id]
            typer.echo("\n".join(f"- {each.text()}" for each in ours) or "There is no rule of this wiring.")
            typer.echo("Nothing was changed: this was a dry run.")
            return
        done = await take_back(aws, snapshot, wanted, deletes_queue=deletes_queue)
    if snapshot.queue is not None and done:
        retired = await retire_queue(read_settings(), snapshot.queue.url, deletes=deletes_queue)
        done += [f"- source {each}: {'deleted' if deletes_queue else 'paused'}" for each in retired]
    typer.echo("\n".join(done) if done else "Nothing to undo.")
