"""`bucketpost aws policy`: the least IAM policy with which the gateway reads what is set up. Made in app/wiring."""

import asyncio
import json
from typing import Annotated, Any

import typer

from app.aws.access import checked_role_arn
from app.domain.errors import SettingsError
from app.settings import read_settings

cli = typer.Typer(help="What AWS must know of the gateway.", no_args_is_help=True)


@cli.callback()
def _root() -> None:
    # With one command alone typer would leave its name out.
    pass


@cli.command()
def policy(
    *,
    role: Annotated[
        str | None, typer.Option(metavar="ARN", help="Print the policy of this role, which sources assume, instead.")
    ] = None,
) -> None:
    """Print the gateway's own least IAM policy for its sources, as JSON alone; remarks go to standard error."""
    if role is not None:
        try:
            checked_role_arn(role)
        except ValueError as error:
            raise SettingsError(f"--role {error}.") from error
    made, remarks = asyncio.run(_made(role))
    for each in remarks:
        typer.echo(f"bucketpost: {each}", err=True)
    typer.echo(json.dumps(made, indent=2))


async def _made(role: str | None) -> tuple[dict[str, Any], list[str]]:
    from app.cli.source_rows import all_sources, place_of
    from app.short_commands import open_database
    from app.sources.sns_config import SnsConfig
    from app.wiring.iam import ConfirmedTopic, gateway_policy
    from app.wiring.own_queues import own_queue

    async with open_database(read_settings()) as database:
        rows = await all_sources(database)
    remarks: list[str] = []
    queues = []
    for place in (place_of(each) for each in rows if each.kind == "sqs"):
        queue, trouble = await own_queue(place.queue_url, place.access)
        queues.append(queue)
        if trouble is not None:
            remarks.append(
                f"{place.name}: taken from its URL, with the dead-letter queue connect would make. {trouble}"
            )
        elif queue.key:
            remarks.append(f"{place.name}: encrypted with {queue.key}; the key's own policy must let this identity in.")
    configs = [SnsConfig.model_validate(dict(each.config)) for each in rows if each.kind == "sns"]
    topics = [ConfirmedTopic(arn=arn, role_arn=each.role_arn) for each in configs for arn in each.topic_arns]
    made = gateway_policy(queues, topics, role_arn=role)
    if not made["Statement"]:
        remarks.append("No source needs anything of AWS" + (" as this role." if role else "."))
    if role is None:
        roles = sorted({each.role_arn for each in queues if each.role_arn})
        remarks += [f"For the role itself: bucketpost aws policy --role {each}" for each in roles]
    return made, remarks
