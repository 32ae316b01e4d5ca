"""`bucketpost migrate`: bring the database to the schema this version needs."""

import asyncio

import typer

from app.settings import read_settings


def migrate() -> None:
    """Create or upgrade the database's schema; safe to run from several machines at once."""
    from app.short_commands import migrate_database

    applied = asyncio.run(migrate_database(read_settings()))
    typer.echo("The schema is up to date now." if applied else "The schema was up to date already.")
