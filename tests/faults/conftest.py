"""What experiments ask for: how long they are, where they say what they found, receivers, replicas."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale, is_long
from tests.bed.faults.witness import Witness
from tests.bed.gateway import Gateway


@pytest.fixture
def scale() -> Scale:
    """Give how long this run's experiments are."""
    return Scale(is_long=is_long())


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Figures:
    """Give the place where an experiment says what it found."""
    return Figures(capsys)


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[Witness]:
    """Run the receivers of an experiment."""
    async with Witness(tmp_path) as running:
        yield running


@pytest.fixture
def make_cluster(make_gateway: Callable[..., Gateway]) -> Callable[..., Cluster]:
    """Make a cluster by the URL of its database and Cluster's other arguments; it is to be started."""

    def make(database_url: str, **arguments: object) -> Cluster:
        return Cluster(make_gateway, database_url, **arguments)  # type: ignore[arg-type]  # passed on as they are

    return make
