"""The jars of the Kafka that the tests run, and what this machine lacks to run them.

Maven fetches them once for each content of tests/kafka/pom.xml, into a cache outside the repository.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bed.process import REPOSITORY, BedError

POM = REPOSITORY / "tests" / "kafka" / "pom.xml"
LOWEST_JAVA = 17
FETCH_SECONDS = 300


@functools.cache
def missing_parts() -> tuple[str, ...]:
    """Name what has to be installed before Kafka can run here; empty when nothing is missing."""
    missing = []
    if _java_version() < LOWEST_JAVA:
        missing.append(f"Java {LOWEST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless)")
    if not _cache().is_dir() and shutil.which("mvn") is None:
        missing.append("Maven (Debian: apt-get install maven)")
    return tuple(missing)


def java() -> str | None:
    """Give the path of Java: JAVA_HOME's, else the first on PATH."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")


def jars() -> Path:
    """Give the directory of the jars, filled by Maven when it is not there yet.

    It appears whole or not at all, so that runs at the same time, or one that was killed, do no harm.
    """
    cache = _cache()
    if cache.is_dir():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache.parent) as fetching:
        _fetch(Path(fetching))
        try:
            (Path(fetching) / "jars").rename(cache)
        except OSError:
            if not cache.is_dir():  # else another run was quicker, with the same jars
                raise
    return cache


def _fetch(directory: Path) -> None:
    """Let Maven work on a copy, so that whatever it leaves beside the file stays out of the repository."""
    shutil.copy(POM, directory / "pom.xml")
    arguments = ["mvn", "--batch-mode", "--file", str(directory / "pom.xml"), "dependency:copy-dependencies"]
    arguments.append(f"-DoutputDirectory={directory / 'jars'}")
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        arguments, cwd=directory, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )
    if done.returncode != 0:
        raise BedError(f"Maven could not fetch the jars of {POM}:\n{done.stdout[-5_000:]}{done.stderr}")


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "bucketpost" / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def _java_version() -> int:
    """Give the feature version, 0 without a Java that answers; Java 8 calls itself 1.8 and counts as 1."""
    path = java()
    if path is None:
        return 0
    try:
        said = subprocess.run(  # noqa: S603 - the path is the machine's own Java
            [path, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found else 0
