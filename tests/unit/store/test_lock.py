"""One process at a time serves one SQLite file."""

from pathlib import Path

import pytest

from app.domain.errors import StartError
from app.store.lock import serving_alone


def test_a_second_one_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    """The second gets a sentence with a way out; after the first has ended it may serve."""
    path = tmp_path / "bucketpost.db"

    with (
        serving_alone(path),
        pytest.raises(StartError, match=r"Another `bucketpost serve` works on"),
        serving_alone(path),
    ):
        pass
    with serving_alone(path):
        pass


def test_another_path_to_the_file_is_no_way_around(tmp_path: Path) -> None:
    """A symbolic link leads to the same lock."""
    path, link = tmp_path / "bucketpost.db", tmp_path / "link.db"
    link.symlink_to(path)

    with serving_alone(path), pytest.raises(StartError, match="Another"), serving_alone(link):
        pass


def test_a_file_with_two_names_is_not_served(tmp_path: Path) -> None:
    """SQLite would keep two logs beside it, and break it."""
    path = tmp_path / "bucketpost.db"
    path.touch()
    (tmp_path / "other.db").hardlink_to(path)

    with pytest.raises(StartError, match="hard links"), serving_alone(path):
        pass


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A lock that cannot be made stops the start with a sentence."""
    with pytest.raises(StartError, match="cannot be written"), serving_alone(tmp_path / "missing" / "bucketpost.db"):
        pass
