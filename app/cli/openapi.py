"""`bucketpost openapi`: the description of the REST API, as openapi.json holds it."""

import typer


def openapi() -> None:
    """Print the OpenAPI 3.1 document of the REST API."""
    from app.api.app import openapi_document

    typer.echo(openapi_document(), nl=False)
