"""`bucketpost migrate`: bring the database to the schema this version needs, or back to an earlier one's."""

import asyncio
from typing import Annotated

import typer

from app.settings import read_settings


def migrate(
    *,
    to: Annotated[
        str | None, typer.Option(help="Revision to go back to before an older version runs again: 0001.")
    ] = None,
) -> None:
    """Create or upgrade the database's schema; safe from several machines at once and while replicas work."""
    from app.short_commands import migrate_database
    from app.store.schema import REVISION

    applied = asyncio.run(migrate_database(read_settings(), to=to or REVISION))
    if to is None:
        typer.echo("The schema is up to date now." if applied else "The schema was up to date already.")
    else:
        typer.echo(f"The schema is at revision {to} now." if applied else f"The schema was at revision {to} already.")
