"""The operator's key of the first start: made once, and handed over before it counts."""

import os
import sys
from pathlib import Path
from typing import Final

import structlog

from app.domain.errors import StartError
from app.store import keys
from app.store.database import Database

KEY_FILE: Final = "bucketpost.key"
OPERATOR: Final = "operator"

_log = structlog.get_logger(__name__)


async def make_first_key(database: Database) -> None:
    """On a database without keys make the operator's, and hand it over before it counts."""
    async with database.write() as connection:
        made = await keys.create_first(connection, name=OPERATOR)
        if made is None:
            return
        where = _hand_over(made[1])
    _log.info("key.made", where=where)


def _hand_over(key: str) -> str:
    """Show the key to the person at the terminal, or else keep it in a file only this user can read."""
    if sys.stdout.isatty():
        print(f"\n  The operator's API key, shown once:\n\n      {key}\n", flush=True)  # noqa: T201 -- to a person
        return "terminal"
    path = Path(KEY_FILE).absolute()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(f"{key}\n")
    except OSError as error:
        raise StartError(
            f"The operator's key cannot be written to {path} ({error.strerror}): start in a directory that can be "
            "written, or make a key with `bucketpost keys create` first."
        ) from error
    return str(path)
