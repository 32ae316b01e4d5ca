"""`bucketpost doctor`: is everything wired right? What is looked at and what it means: app/wiring."""

import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.wiring_options import EndpointUrl, Region, access
from app.settings import read_settings
from app.wiring.wish import bucket_of

if TYPE_CHECKING:
    from app.aws.access import Access
    from app.wiring.findings import Finding


def doctor(
    bucket: Annotated[
        str | None, typer.Argument(metavar="BUCKET", help="One bucket, as s3://BUCKET, and the sources it sends to.")
    ] = None,
    *,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Examine the queues of all sources and the buckets that send to them; status 1 when something is wrong.

    It changes nothing. Each finding comes with the command or the policy that mends it.
    """
    name = None if bucket is None else bucket_of(bucket)
    found = asyncio.run(_examine(name, access(region=region, endpoint_url=endpoint_url)))
    if json_:
        typer.echo(json.dumps({"findings": [asdict(each) for each in found]}, indent=2))
    else:
        _tell(found)
    sys.exit(1 if any(each.severity == "error" for each in found) else 0)


async def _examine(bucket: str | None, where: "Access") -> "list[Finding]":
    from app.cli.source_rows import place_of, sqs_sources
    from app.short_commands import open_database
    from app.wiring.bucket_findings import findings
    from app.wiring.examine import examine

    async with open_database(read_settings()) as database:
        rows = await sqs_sources(database)
    return findings(await examine([place_of(each) for each in rows], bucket=bucket, access=where))


def _tell(found: "list[Finding]") -> None:
    for each in found:
        typer.echo(f"{each.severity:<8} {each.about}: {each.reason}")
        if each.mend:
            typer.echo(f"         mend: {each.mend}")
    counts = Counter(each.severity for each in found)
    typer.echo(f"{counts['error']} errors, {counts['warning']} warnings, {counts['info']} remarks.")
