"""One process serves one SQLite file: a lock beside the file, which ends with the process however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.errors import StartError


@contextmanager
def serving_alone(path: Path) -> Iterator[None]:
    """Hold the file's lock. Raises StartError when another process serves it."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(
            f"{lock_path} cannot be written ({error.strerror}): give a database in a directory that can."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"Another `bucketpost serve` works on {path}: stop it, or give this one a database of its own "
                "(PostgreSQL takes any number of replicas)."
            ) from error
        yield
    finally:
        os.close(descriptor)
