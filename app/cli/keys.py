"""`bucketpost keys`: make, list and revoke the keys of the REST API, beside a running `serve` too."""

import asyncio
from typing import Annotated

import typer

from app.settings import read_settings

cli = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@cli.command()
def create(name: Annotated[str, typer.Option(help="What the key is for: a label of 1 to 200 characters.")]) -> None:
    """Make a key. It is shown once, alone on the last line."""
    from app import bootstrap  # noqa: PLC0415 -- --help need not load SQLAlchemy

    key_id, key = asyncio.run(bootstrap.create_key(read_settings(), name))
    typer.echo(f"{key_id} made. Keep the key: it cannot be shown again.", err=True)
    typer.echo(key)


@cli.command(name="list")
def list_() -> None:
    """Show the keys there are, without their secret part."""
    from app import bootstrap  # noqa: PLC0415 -- as above

    for line in asyncio.run(bootstrap.list_keys(read_settings())):
        typer.echo(line)


@cli.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id that `keys list` shows.")]) -> None:
    """End a key at once."""
    from app import bootstrap  # noqa: PLC0415 -- as above

    asyncio.run(bootstrap.revoke_key(read_settings(), key_id))
    typer.echo(f"{key_id} is revoked.")
