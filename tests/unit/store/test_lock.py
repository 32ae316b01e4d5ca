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


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A lock that cannot be made stops the start with a sentence."""
    with pytest.raises(StartError, match="cannot be written"), serving_alone(tmp_path / "missing" / "bucketpost.db"):
        pass
