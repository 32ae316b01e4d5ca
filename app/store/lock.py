"""One process serves one SQLite file: a lock beside the file, which ends with the process however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.errors import StartError


@contextmanager
def serving_alone(path: Path) -> Iterator[None]:
    """Hold the file's lock, by whatever path it was given. Raises StartError when another process serves it."""
    path = path.resolve()
    # By another name the lock would be another one, and SQLite's write-ahead log too, which breaks the file:
    # https://sqlite.org/howtocorrupt.html, "Multiple links to the same file".
    if path.is_file() and path.stat().st_nlink > 1:
        raise StartError(f"{path} has other names (hard links): copy it, and give the copy a name of its own.")
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
