"""The wheel is all that is needed: commands and migrations work from it in any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.bed.process import REPOSITORY, ChildProcess, clean_environment


async def test_the_wheel_migrates_in_any_directory(tmp_path: Path) -> None:
    """Built, unpacked and run far from the checkout, `migrate` makes the database and a second run changes nothing."""
    subprocess.run(  # noqa: S603, ASYNC221 -- our own interpreter, and nothing else runs in this test
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    [wheel] = (tmp_path / "dist").glob("bucketpost-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path / "site")}

    said = []
    for run in ("first", "second"):
        migrate = ChildProcess(
            [sys.executable, "-m", "app", "migrate"], output=elsewhere / run, cwd=elsewhere, env=environment
        )
        migrate.start()
        assert await migrate.end(within=30) == os.EX_OK, migrate.tail()
        said.append(migrate.stdout().strip())

    assert said == ["The schema is up to date now.", "The schema was up to date already."]
    assert (elsewhere / "bucketpost.db").exists()
