"""`bucketpost keys`: make, list and revoke the keys of the REST API, beside a running `serve` too."""

import asyncio
from typing import Annotated, Final

import typer

from app.domain.errors import SettingsError
from app.domain.ids import ApiKeyId, parse_id, public_id
from app.settings import read_settings

NAME_LIMIT: Final = 200

cli = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@cli.command()
def create(name: Annotated[str, typer.Option(help="What the key is for: a label of 1 to 200 characters.")]) -> None:
    """Make a key. It is shown once, alone on the last line."""
    if not 1 <= len(name) <= NAME_LIMIT:
        raise SettingsError(f"--name is a label of 1 to {NAME_LIMIT} characters.")
    asyncio.run(_create(name))


@cli.command(name="list")
def list_() -> None:
    """Show the keys there are, without their secret part."""
    asyncio.run(_list())


@cli.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id that `keys list` shows.")]) -> None:
    """End a key at once."""
    raw = parse_id("key", key_id)
    if raw is None:
        raise SettingsError(f"{key_id} is not the id of a key: `bucketpost keys list` shows them.")
    asyncio.run(_revoke(ApiKeyId(raw)))


async def _create(name: str) -> None:
    from app.short_commands import open_database
    from app.store import keys

    async with open_database(read_settings()) as database, database.write() as connection:
        key_id, key = await keys.create(connection, name=name)
    typer.echo(f"{public_id('key', key_id)} made. Keep the key: it cannot be shown again.")
    typer.echo(key)


async def _list() -> None:
    from app.short_commands import open_database
    from app.store import keys

    async with open_database(read_settings()) as database, database.read() as connection:
        found = await keys.list_all(connection)
    for key in found:
        state = "in use" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d %H:%M:%SZ}"
        typer.echo(f"{public_id('key', key.id)}  {key.created_at:%Y-%m-%d %H:%M:%SZ}  {state:<30}  {key.name}")


async def _revoke(key_id: ApiKeyId) -> None:
    from app.short_commands import open_database
    from app.store import keys

    async with open_database(read_settings()) as database, database.write() as connection:
        if not await keys.revoke(connection, key_id):
            raise SettingsError(
                f"There is no key {public_id('key', key_id)} in use: `bucketpost keys list` shows them."
            )
    typer.echo(f"{public_id('key', key_id)} is revoked.")
