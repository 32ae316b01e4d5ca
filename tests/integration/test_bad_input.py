"""Wrong input to the commands and the process: each a clear sentence, the right exit status, and nothing lost."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.process import BedError, until
from tests.bed.receiver import Answer, Received, Receiver

MakeGateway = Callable[..., Gateway]


async def test_a_port_in_use_is_said(make_gateway: MakeGateway) -> None:
    """The second on a port ends with status 1 and says which option chooses another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = make_gateway(port=taken.getsockname()[1])
        gateway.start()
        status = await gateway.process.end(within=15)

    assert status == 1
    assert f"Port {gateway.port} on 127.0.0.1 is in use" in gateway.process.stderr()
    assert "--port" in gateway.process.stderr()


async def test_a_second_serve_on_one_sqlite_file_is_refused(make_gateway: MakeGateway, sqlite_url: str) -> None:
    """The second ends with status 1 and a sentence; the first is not disturbed; short commands work beside it."""
    first = make_gateway(database_url=sqlite_url)
    first.start()
    await first.ready()
    second = make_gateway(database_url=sqlite_url, key="unused")
    second.start()

    status = await second.process.end(within=15)

    assert status == 1
    assert "Another `bucketpost serve` works on" in second.process.stderr()
    assert (await first.run("keys", "create", "--name", "beside")).splitlines()[-1]
    await first.ready()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BUCKETPOST_DATABASE_URI", "sqlite:///x.db", "BUCKETPOST_DATABASE_URL"),
        ("BUCKETPOST_DATABASE_URL", "", "begins with nothing"),
        ("BUCKETPOST_DATABASE_URL", "sqlite:////proc/x.db", "which cannot be made"),
        ("BUCKETPOST_DATABASE_URL", "mysql://localhost/x", "sqlite:///file.db or postgresql://"),
        ("BUCKETPOST_DATABASE_URL", "sqlite:////no/such/directory/x.db", "there is no directory /no/such/directory"),
        ("BUCKETPOST_DATABASE_URL", "sqlite:////usr", "/usr, which is a directory"),
        ("BUCKETPOST_DATABASE_URL", "postgresql://host:port/x", "BUCKETPOST_DATABASE_URL"),
        ("BUCKETPOST_DELIVERY__LEASE_SECONDS", "soon", "BUCKETPOST_DELIVERY__LEASE_SECONDS"),
    ],
)
async def test_a_wrong_setting_ends_with_status_2(make_gateway: MakeGateway, name: str, value: str, said: str) -> None:
    """A wrong setting stops the start with a sentence that names what to change, and no stack trace."""
    gateway = make_gateway(env={name: value})
    gateway.start()

    status = await gateway.process.end(within=15)

    assert status == 2
    assert said in gateway.process.stderr()
    assert "Traceback" not in gateway.process.stderr()


async def test_a_schema_too_new_is_refused(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """A database of a later version is left alone, with a sentence."""
    gateway = make_gateway(database_url=f"sqlite:///{tmp_path / 'new.db'}")
    await gateway.run("migrate")
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    gateway.start()

    status = await gateway.process.end(within=15)

    assert status == 1
    assert "too new" in gateway.process.stderr()


async def test_a_database_that_comes_late_is_waited_for(
    own_postgres: EmbeddedPostgres, make_gateway: MakeGateway
) -> None:
    """Unreachable at the start: said at once, alive and not ready meanwhile, ready when it comes."""
    await own_postgres.stop()
    gateway = make_gateway(database_url=own_postgres.url)
    gateway.start()

    await until(lambda: _answers(gateway, "/healthz", 200), within=15, what="alive", process=gateway.process)
    assert await _answers(gateway, "/readyz", 503)
    await until(lambda: _says(gateway, "database.unreachable"), within=5, what="said", process=gateway.process)
    await own_postgres.start()
    await gateway.ready()

    assert await _answers(gateway, "/readyz", 200)


async def test_a_database_that_goes_away_later_is_waited_for(
    own_postgres: EmbeddedPostgres, aws: Aws, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """While it is away the API says 503 and messages are kept; when it is back they are delivered."""
    gateway = make_gateway(database_url=own_postgres.url)
    gateway.start()
    await gateway.ready()
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    queue_url = await aws.create_queue(visibility_seconds=2)
    await wiring.add_queue(gateway.api, aws, queue_url)

    await own_postgres.stop("immediate")
    await aws.send(queue_url, s3_messages.message_for("photos", "cat.jpg"))
    await until(lambda: _answers(gateway, "/readyz", 503), within=15, what="not ready", process=gateway.process)
    answer = await gateway.api.request("GET", "/events")
    await own_postgres.start()
    heard = await receiver.wait_for(1, within=30)

    assert answer.status == 503
    assert answer.body["code"]
    assert b"cat.jpg" in heard[0].body


async def test_a_stop_is_graceful(make_gateway: MakeGateway, sqlite_url: str) -> None:
    """SIGTERM ends an idle gateway with status 0."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()

    ended = await gateway.terminate()

    assert ended.status == 0


async def test_what_is_in_flight_is_finished_at_a_stop(
    make_gateway: MakeGateway, sqlite_url: str, aws: Aws, receiver: Receiver
) -> None:
    """A slow receiver is waited for, its success is written down, and the next start sends nothing again."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()
    answering = asyncio.Event()

    async def answer_late(_: Received) -> Answer:
        await answering.wait()
        return Answer()

    receiver.answer_with("/hook", answer_late)
    await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    queue_url = await aws.create_queue(visibility_seconds=2)
    await wiring.add_queue(gateway.api, aws, queue_url)
    await aws.send(queue_url, s3_messages.message_for("photos", "cat.jpg"))
    await receiver.wait_for(1, within=20)

    ending = asyncio.create_task(gateway.terminate())
    await until(lambda: _answers(gateway, "/readyz", 503), within=5, what="not ready", process=gateway.process)
    answering.set()
    ended = await ending
    gateway.start()
    await gateway.ready()
    delivered = await gateway.api.get("/deliveries", status="delivered")

    assert ended.status == 0
    assert len(delivered["data"]) == 1
    assert len(receiver.received("/hook")) == 1


async def test_a_webhook_to_a_private_address_is_refused(make_gateway: MakeGateway, sqlite_url: str, aws: Aws) -> None:
    """A literal one at registration, a name at the socket: then the delivery is dead at once, with its reason."""
    gateway = make_gateway(database_url=sqlite_url, env={"BUCKETPOST_DELIVERY__ALLOW_CIDRS": ""})
    gateway.start()
    await gateway.ready()
    literal = {"name": "x", "kind": "webhook", "config": {"url": "http://127.0.0.1:9000/"}}

    refused = await gateway.api.request("POST", "/endpoints", body=literal)
    await wiring.add_webhook(gateway.api, f"http://localhost:{gateway.port}/")
    queue_url = await aws.create_queue(visibility_seconds=2)
    await wiring.add_queue(gateway.api, aws, queue_url)
    await aws.send(queue_url, s3_messages.message_for("photos", "cat.jpg"))
    await until(lambda: _has_dead(gateway), within=20, what="a dead delivery", process=gateway.process)
    [dead] = (await gateway.api.get("/deliveries", status="dead"))["data"]

    assert refused.status == 422
    assert refused.body["errors"][0]["pointer"] == "/config/url"
    assert dead["reason"] == "address_refused"


async def test_a_key_that_cannot_be_written_stops_the_start(make_gateway: MakeGateway, sqlite_url: str) -> None:
    """Where the first key cannot be kept, the start ends with a sentence, and the next one makes a key."""
    gateway = make_gateway(database_url=sqlite_url)
    blocked = gateway.directory / "bucketpost.key"
    blocked.mkdir()
    gateway.start()

    status = await gateway.process.end(within=15)
    blocked.rmdir()
    gateway.start()
    await gateway.ready()

    assert status == 1
    assert "cannot be written to" in gateway.process.stderr()
    assert (await gateway.api.get("/events"))["data"] == []


async def test_a_command_without_a_database_says_so(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """A short command ends with status 1 and names the setting to look at."""
    gateway = make_gateway(database_url=f"postgresql:///x?host={tmp_path}", key="unused")

    with pytest.raises(BedError, match=r"(?s)status 1.*BUCKETPOST_DATABASE_URL"):
        await gateway.run("keys", "list")


async def test_the_first_key_is_for_this_user_alone(make_gateway: MakeGateway, sqlite_url: str) -> None:
    """Without a terminal the key goes into a file of mode 0600, and never into the log."""
    gateway = make_gateway(database_url=sqlite_url)
    gateway.start()
    await gateway.ready()

    path = gateway.directory / "bucketpost.key"
    key = path.read_text().strip()

    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in gateway.process.stderr() + gateway.process.stdout()
    assert str(path) in gateway.process.stderr()


async def _answers(gateway: Gateway, path: str, status: int) -> bool:
    return await gateway.status_of(path) == status


async def _says(gateway: Gateway, text: str) -> bool:
    return text in gateway.process.stderr()


async def _has_dead(gateway: Gateway) -> bool:
    return bool((await gateway.api.get("/deliveries", status="dead"))["data"])
