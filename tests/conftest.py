"""The parts that tests ask for by name. Each is started when the first test asks, and stopped at the end.

How they are run is in tests/bed/; how a run says what this machine lacks, in tests/bed/left_out.py.
"""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.bed import left_out
from tests.bed.aws import ENVIRONMENT, Aws
from tests.bed.gateway import Gateway
from tests.bed.kafka import EmbeddedKafka, Kafka, external_servers
from tests.bed.kafka_jars import missing_parts
from tests.bed.postgres import Databases, EmbeddedPostgres, external_url
from tests.bed.receiver import Receiver


def pytest_report_header() -> list[str]:
    """Say before the first test what the tests run on."""
    return left_out.header()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say after the last test what was not run."""
    left_out.summarise(terminalreporter, left_out.skipped(terminalreporter.config))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run in CI when anything was left out."""
    if left_out.is_ci() and left_out.skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Databases]:
    """Give PostgreSQL, shared by all tests; each makes its own databases in it."""
    given = external_url()
    if given is not None:
        databases = Databases(given)
        yield databases
        await databases.close()
        return
    server = EmbeddedPostgres()
    try:
        await server.start()
        yield server.databases
    finally:
        await server.close()


@pytest.fixture
async def postgres_url(postgres: Databases) -> AsyncIterator[str]:
    """Make an empty PostgreSQL database for this test alone."""
    url = await postgres.create()
    yield url
    await postgres.drop(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'bucketpost.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Make an empty database for this test alone; the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """Start a PostgreSQL for this test alone, which may stop and restart it."""
    server = EmbeddedPostgres()
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@pytest.fixture(scope="session")
async def embedded_kafka() -> AsyncIterator[EmbeddedKafka]:
    """Start the run's one broker; tests ask for `kafka` or `own_kafka`."""
    if missing_parts():
        left_out.leave_out("Kafka", missing_parts())
    broker = EmbeddedKafka()
    try:
        await broker.start()
        yield broker
    finally:
        await broker.close()


@pytest.fixture
async def own_kafka(embedded_kafka: EmbeddedKafka) -> AsyncIterator[EmbeddedKafka]:
    """Give the broker to a test that stops and starts it; it runs again when the test ends."""
    yield embedded_kafka
    if not embedded_kafka.process.is_running:
        await embedded_kafka.start()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Kafka:
    """Give Kafka, shared by all tests; each makes its own topics in it."""
    cluster: Kafka = request.getfixturevalue("external_kafka" if external_servers() else "embedded_kafka")
    return cluster


@pytest.fixture(scope="session")
async def external_kafka() -> AsyncIterator[Kafka]:
    """Give the cluster of BUCKETPOST_TEST_KAFKA, and take the topics out again; ask for `kafka`."""
    cluster = Kafka(external_servers() or "")
    yield cluster
    await cluster.close()


@pytest.fixture(scope="session")
async def aws() -> AsyncIterator[Aws]:
    """Start moto's S3, SQS and SNS, with credentials in the environment for the default chain."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_PROFILE", raising=False)
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        server = Aws()
        try:
            await server.start()
            yield server
        finally:
            await server.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Run a webhook receiver in this process."""
    async with Receiver() as listening:
        yield listening


@pytest.fixture
async def make_gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Gateway]]:
    """Make gateways by Gateway's arguments without the directory; a failure shows what they wrote."""
    made: list[Gateway] = []

    def make(*, name: str = "gateway", **arguments: object) -> Gateway:
        directory = tmp_path / f"{name}-{len(made) + 1}"
        directory.mkdir()
        made.append(Gateway(directory, name=name, **arguments))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    yield make
    for gateway in made:
        await gateway.close()
        sys.stdout.write(f"{gateway.process.tail()}\n")
