"""`bucketpost serve`: run the gateway."""

import sys
from typing import Annotated, Final

import typer

from app.domain.errors import SettingsError
from app.settings import Settings, read_settings

PARTS: Final = ("api", "ingest", "relay")


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8080")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Parts to run, separated by commas: api, ingest, relay.", show_default="all three"),
    ] = None,
) -> None:
    """Receive, record and deliver events, and answer the REST API, until SIGTERM."""
    settings = _with_flags(read_settings(), host=host, port=port)
    parts = _read_parts(only)

    from app import bootstrap  # noqa: PLC0415 -- --help and wrong usage need not load everything

    sys.exit(bootstrap.run(settings, parts))


def _with_flags(settings: Settings, *, host: str | None, port: int | None) -> Settings:
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"server": settings.server.model_copy(update=given)}) if given else settings


def _read_parts(only: str | None) -> frozenset[str]:
    if only is None:
        return frozenset(PARTS)
    parts = [part.strip() for part in only.split(",") if part.strip()]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise SettingsError(
            f"--only takes {', '.join(PARTS)}, separated by commas; not {', '.join(unknown) or 'nothing'}."
        )
    return frozenset(parts)
