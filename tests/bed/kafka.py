"""Kafka for the tests: the one that BUCKETPOST_TEST_KAFKA names, or a real single node (KRaft) run by Java.

What it needs on the machine is in kafka_jars.py; what was delivered is read by kafka_journal.py.
"""

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from tests.bed.kafka_jars import jars, java
from tests.bed.ports import HOST, free_port
from tests.bed.process import BedError, ChildProcess, until

# Without log4j's own set-up only errors are said, which is what a failed test needs to see.
JVM_OPTIONS = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
START_SECONDS = 60


class Kafka:
    """A running cluster, seen from outside: where it is, and topics that are made for the tests."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._made: list[str] = []

    async def create_topic(
        self, name: str | None = None, *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Make a topic, with a name of its own if none is given; it is there for everybody on return."""
        name = name or f"bucketpost-test-{uuid.uuid4().hex[:12]}"
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=dict(config or {}))
        async with self._admin() as admin:
            answer = await admin.create_topics([topic])
            _raise_errors(answer.topic_errors)
            self._made.append(name)
            await until(lambda: _is_led(admin, name, partitions), within=15, what=f"topic {name} has leaders")
        return name

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with everything in it."""
        async with self._admin() as admin:
            answer = await admin.delete_topics([name])
            _raise_errors(answer.topic_error_codes)
        if name in self._made:
            self._made.remove(name)

    async def close(self) -> None:
        """Delete the topics that were made here."""
        for name in list(self._made):
            await self.delete_topic(name)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        # A client for each call: one that saw the broker go away would first have to find out.
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=15_000)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


class EmbeddedKafka(Kafka):
    """One broker in a temporary directory; stopped and started it keeps its port, topics and records."""

    def __init__(self) -> None:
        self._port = free_port()
        super().__init__(f"{HOST}:{self._port}")
        self._directory = Path(tempfile.mkdtemp(prefix="bucketpost-kafka-"))
        self._properties = self._directory / "server.properties"
        self._properties.write_text(_properties(self._directory / "data", self._port, free_port()))
        self._program = [java() or "java", *JVM_OPTIONS, "-cp", f"{jars()}/*"]
        self._format()
        self.process = ChildProcess(
            [*self._program, "kafka.Kafka", str(self._properties)], output=self._directory / "kafka"
        )

    async def start(self) -> None:
        """Start it and wait until it answers requests."""
        self.process.start()
        await until(self._is_open, within=START_SECONDS, what="Kafka listens", process=self.process)
        await until(self._answers, within=START_SECONDS, what="Kafka answers", process=self.process)

    async def stop(self) -> None:
        """Stop it in order, which takes it about 2 s."""
        await self.process.stop(within=30)

    async def kill(self) -> None:
        """End it as kill -9 does; what it acknowledged is in the system's page cache and not lost."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it in order and start it again."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """End it and remove its data; nothing in it is worth an orderly stop."""
        await self.process.stop(signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _format(self) -> None:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [*self._program, "kafka.tools.StorageTool", "format"]
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            [*tool, f"--cluster-id={identity}", "--config", str(self._properties)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise BedError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")

    async def _is_open(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self._port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def _answers(self) -> bool:
        try:
            async with self._admin() as admin:
                return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False


def external_servers() -> str | None:
    """Give the bootstrap servers the environment names, if it names any."""
    return os.environ.get("BUCKETPOST_TEST_KAFKA") or None


def _raise_errors(topic_errors: list[tuple[str, int]]) -> None:
    for name, code, *_ in topic_errors:
        if code != 0:
            raise BedError(f"topic {name}: {for_code(code).__name__}")


async def _is_led(admin: AIOKafkaAdminClient, name: str, partitions: int) -> bool:
    """Say whether the broker knows every partition and its leader; right after the creation it may not."""
    [topic] = await admin.describe_topics([name])
    led = [part for part in topic["partitions"] if part["error_code"] == 0 and part["leader"] >= 0]
    return topic["error_code"] == 0 and len(led) == partitions


def _properties(data: Path, port: int, controller_port: int) -> str:
    # A broker that was killed may come back when its session has run out: 9 s unless said otherwise.
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
listeners=PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
