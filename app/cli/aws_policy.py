"""`bucketpost aws policy`: what the gateway itself needs at AWS for its sources, as an IAM policy and nothing else."""

import asyncio
import json
from urllib.parse import urlsplit

import typer

from app.domain.errors import SettingsError
from app.settings import read_settings

cli = typer.Typer(help="What the gateway needs at AWS.", no_args_is_help=True)


@cli.callback()
def _aws() -> None:
    pass


@cli.command()
def policy() -> None:
    """Print the least IAM policy for the configured sources."""
    asyncio.run(_policy())


async def _policy() -> None:
    from app.connecting import configured_sources  # noqa: PLC0415 -- --help need not load SQLAlchemy
    from app.wiring.policies import gateway_policy  # noqa: PLC0415 -- likewise

    queues: list[str] = []
    topics: list[str] = []
    roles: list[str] = []
    for source in await configured_sources(read_settings()):
        role = source.config.get("role_arn")
        if isinstance(role, str):
            # What the role may do is the role's own policy.
            roles.append(role)
        elif source.kind == "sqs":
            queues.append(_queue_arn(str(source.config["queue_url"]), source.config.get("region")))
        elif source.kind == "sns":
            found = source.config.get("topic_arns")
            topics += [str(each) for each in found] if isinstance(found, list) else []
    if not (queues or topics or roles):
        raise SettingsError("There is no source at AWS yet: `bucketpost connect` makes one.")
    document = gateway_policy(
        queue_arns=queues,
        topic_arns=topics,
        role_arns=roles,
        dead_letter_arns=[f"{each}-dead" for each in queues],
    )
    typer.echo(json.dumps(document, indent=2))


def _queue_arn(url: str, region: object) -> str:
    from app.sources.sqs_config import SqsConfig  # noqa: PLC0415 -- --help need not load it
    from app.wiring.wanted import partition_of  # noqa: PLC0415 -- likewise

    account, name = urlsplit(url).path.strip("/").split("/")[-2:]
    found = region if isinstance(region, str) else SqsConfig(queue_url=url).signing_region or "*"
    return f"arn:{partition_of(found)}:sqs:{found}:{account}:{name}"
