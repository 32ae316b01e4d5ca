"""The command `bucketpost`: puts the commands together, and turns our errors into a sentence and an exit status.

0 after success, 2 for wrong settings or usage, 1 otherwise.
"""

import sys
from typing import Annotated

import typer

import app
from app.cli import aws_policy, connect, demo, disconnect, doctor, keys, migrate, openapi, serve
from app.domain.errors import GatewayError, SettingsError, StoreUnavailable

cli = typer.Typer(
    name="bucketpost",
    help="A notification gateway for object-store events: S3 events in, webhooks and Kafka topics out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
cli.command("serve")(serve.serve)
cli.command("migrate")(migrate.migrate)
cli.command("connect")(connect.connect)
cli.command("disconnect")(disconnect.disconnect)
cli.command("doctor")(doctor.doctor)
cli.command("openapi")(openapi.openapi)
cli.command("demo")(demo.demo)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(aws_policy.cli, name="aws")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 -- typer's callback signature
    if wanted:
        typer.echo(f"bucketpost {app.__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command line of this process."""
    try:
        cli()
    except SettingsError as error:
        typer.echo(f"bucketpost: {error}", err=True)
        sys.exit(2)
    except StoreUnavailable as error:
        typer.echo(f"bucketpost: The database does not answer ({error}). Is BUCKETPOST_DATABASE_URL right?", err=True)
        sys.exit(1)
    except GatewayError as error:
        typer.echo(f"bucketpost: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
