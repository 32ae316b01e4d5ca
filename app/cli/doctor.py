"""`bucketpost doctor`: examines the wiring of sources and buckets, and says what mends each thing it finds."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.wiring_options import EndpointUrl, Region, run
from app.settings import read_settings

if TYPE_CHECKING:
    from app.aws.access import Access
    from app.wiring.findings import Finding

_ORDER: Final = ("error", "warning", "info", "ok")


def doctor(
    bucket: Annotated[str | None, typer.Argument(metavar="[s3://BUCKET]", help="A bucket to examine too.")] = None,
    *,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON, one array.")] = False,
) -> None:
    """Examine every configured queue, and a bucket; exit status 1 when something is broken."""
    from app.aws.access import Access  # noqa: PLC0415 -- --help need not load it
    from app.wiring.wanted import bucket_in, checked_endpoint  # noqa: PLC0415 -- likewise

    name = None if bucket is None else bucket_in(bucket)
    access = Access(region=region, endpoint_url=checked_endpoint(endpoint_url))
    findings = run(_examine(name, access))
    in_order = sorted(findings, key=lambda each: _ORDER.index(each.severity))
    typer.echo(json.dumps([asdict(each) for each in in_order], indent=2) if as_json else _as_text(in_order))
    raise typer.Exit(int(any(each.severity == "error" for each in findings)))


async def _examine(bucket: str | None, access: "Access") -> "list[Finding]":
    from app.connecting import configured_sources  # noqa: PLC0415 -- --help need not load SQLAlchemy
    from app.sources.sqs_config import SqsConfig  # noqa: PLC0415 -- likewise
    from app.wiring.examination import see_bucket, see_queue  # noqa: PLC0415 -- likewise
    from app.wiring.findings import examine_bucket, examine_queue  # noqa: PLC0415 -- likewise
    from app.wiring.snapshot import Aws  # noqa: PLC0415 -- likewise

    findings: list[Finding] = []
    for source in await configured_sources(read_settings()):
        if source.kind == "sqs":
            config = SqsConfig.model_validate(dict(source.config))
            async with Aws(config.access) as aws:
                findings += examine_queue(await see_queue(aws, config.queue_url))
    if bucket is not None:
        async with Aws(access) as aws:
            seen, queues = await see_bucket(aws, bucket)
        findings += examine_bucket(seen, queues)
    return findings


def _as_text(findings: "Sequence[Finding]") -> str:
    if not findings:
        return "Nothing to examine: there is no source of kind sqs, and no bucket was named."
    return "\n".join(line for each in findings for line in _lines(each))


def _lines(finding: "Finding") -> list[str]:
    first = f"{finding.severity:<8} {finding.subject}: {finding.reason}"
    return [first, f"         mend: {finding.mend}"] if finding.mend else [first]
