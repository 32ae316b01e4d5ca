"""What the AWS library raises, turned into one error with AWS's own code and message."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.domain.errors import SourceError

_LONGEST: Final = 1000


class AwsError(SourceError):
    """AWS, or what speaks like it, said no or nothing: `code` and `message` are its own words.

    `status` is the answer's HTTP status; None when there was no answer.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(" ".join(f"{code}: {message}".replace("\0", " ").split())[:_LONGEST])


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the AWS library raises into AwsError; a TimeoutError passes, its meaning is the caller's."""
    try:
        yield
    except TimeoutError:
        raise
    except _library_errors() as error:
        # Only ClientError has an answer of AWS; botocore's network errors have a `response` that is None.
        answer = getattr(error, "response", None) or {}
        told, status = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code, message = told.get("Code", type(error).__name__), told.get("Message", str(error))
        raise AwsError(code, message, status=status) from error


@functools.cache
def _library_errors() -> tuple[type[Exception], ...]:
    # Asked for only when something was raised, so that nothing is imported on the event loop.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- imported when needed, see clients.py
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 -- likewise

    # ValueError: an endpoint that is no URL. RuntimeError: aiohttp's session was closed under the call.
    return ClientError, BotoCoreError, ResponseParserError, OSError, ValueError, RuntimeError
