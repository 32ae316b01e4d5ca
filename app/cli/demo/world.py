"""The demo's world: an S3, SNS and SQS of its own, a receiver, and the gateway as a process that can be killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiobotocore.session import get_session

from app.cli.demo.receiver import Receiver
from app.cli.demo.screen import Screen
from app.domain.errors import StartError

START_SECONDS: Final = 30.0
PROOF_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05
BUCKET: Final = "demo"
REGION: Final = "us-east-1"
# Moto looks at no credentials, but the client signs with some; nothing leaves this machine.
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_DEFAULT_REGION": REGION}


class World:
    """Everything the proofs play with. `open` before use, `close` whatever happens."""

    def __init__(self, directory: Path, screen: Screen) -> None:
        """Take the directory in which everything is kept."""
        self.receiver = Receiver()
        self.key = ""
        self.topic_arn = ""
        self.gateway_log = directory / "gateway.log"
        self._directory = directory
        self._screen = screen
        self._aws_port, self._gateway_port = _free_ports(2)
        self.aws_url = f"http://127.0.0.1:{self._aws_port}"
        self.gateway_url = f"http://127.0.0.1:{self._gateway_port}"
        self._aws: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Start all parts at once; each says when it is ready."""
        self.http = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        )
        self._start_aws()
        self._launch_gateway(only=None)
        await self.receiver.open()
        self._screen.part("receiver", f"{self.receiver.url}  (verifies every signature)")
        await self._wait("the AWS emulator", self._aws_answers)
        self._screen.part("aws", f"s3, sns and sqs emulator  {self.aws_url}")
        queue_url = await self._wire_bucket()
        self._screen.part("bucket", f"s3://{BUCKET} -> topic demo-events -> queue demo-queue")
        await self._wait("the gateway", self._gateway_ready)
        self.key = (self._directory / "bucketpost.key").read_text().strip()
        self._screen.part("gateway", f"{self.gateway_url}  (database: sqlite, temporary)")
        await self._register_source(queue_url)

    async def close(self) -> None:
        """Stop every process and free every port."""
        for process in (self._gateway, self._aws):
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, 5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    await asyncio.to_thread(process.wait)
        await self.receiver.close()
        await self._stack.aclose()

    # The gateway

    async def start_gateway(self, *, only: str | None = None) -> int:
        """Start the gateway anew, the whole of it or some parts; its process number."""
        number = self._launch_gateway(only=only)
        await self._wait("the gateway", self._gateway_ready)
        return number

    async def stop_gateway(self, number: int = signal.SIGTERM) -> None:
        """Send the gateway a signal and wait for its end."""
        if self._gateway is not None:
            self._gateway.send_signal(number)
            await asyncio.to_thread(self._gateway.wait, START_SECONDS)

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the REST API for JSON. Raises StartError with the problem's text when it says no."""
        return json.loads(await self.read(path, method=method, body=body))

    async def read(self, path: str, *, method: str = "GET", body: object = None) -> str:
        """Ask the gateway and give the answer's text. Raises StartError as `call` does."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with self.http.request(method, f"{self.gateway_url}{path}", headers=headers, json=body) as answer:
            text = await answer.text()
            if answer.status >= 400:  # noqa: PLR2004 -- the class of errors
                raise StartError(f"{method} {path} was answered {answer.status}: {text}")
            return text

    async def metric(self, name: str, **labels: str) -> int:
        """Read one figure of the gateway's /metrics."""
        chosen = ",".join(f'{label}="{value}"' for label, value in labels.items())
        wanted = f"{name}{{{chosen}}} "
        page = await self.read("/metrics")
        return next((int(float(line.removeprefix(wanted))) for line in page.splitlines() if line.startswith(wanted)), 0)

    async def until(self, is_there: Callable[[], Awaitable[bool]], *, seconds: float = PROOF_SECONDS) -> bool:
        """Look again and again until something is there; False when it is not in time."""
        try:
            async with asyncio.timeout(seconds):
                while not await is_there():  # noqa: ASYNC110 -- another process cannot set our event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    # The bucket

    async def put(self, key: str, body: bytes) -> None:
        """Upload one object."""
        await self._s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    async def say_again(self, record: str) -> None:
        """Publish a notification a second time, as S3 does now and then."""
        message = f'{{"Records":[{record}]}}'
        await self._sns.publish(TopicArn=self.topic_arn, Message=message, Subject="Amazon S3 Notification")

    # How the parts start

    def _start_aws(self) -> None:
        with (self._directory / "aws.log").open("wb") as log:
            self._aws = subprocess.Popen(  # noqa: S603 -- our own interpreter
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._aws_port)],
                stdout=log,
                stderr=log,
                env={**os.environ, **CREDENTIALS},
            )

    def _launch_gateway(self, *, only: str | None) -> int:
        command = [sys.executable, "-m", "app", "serve", "--port", str(self._gateway_port)]
        if only is not None:
            command += ["--only", only]
        with self.gateway_log.open("ab") as log:
            self._gateway = subprocess.Popen(  # noqa: S603 -- our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=_gateway_environment(),
            )
        return self._gateway.pid

    async def _wire_bucket(self) -> str:
        session = get_session()
        for name, value in CREDENTIALS.items():
            os.environ.setdefault(name, value)
        self._s3, self._sns, sqs = [
            await self._stack.enter_async_context(
                session.create_client(kind, endpoint_url=self.aws_url, region_name=REGION)
            )
            for kind in ("s3", "sns", "sqs")
        ]
        topic = await self._sns.create_topic(Name="demo-events")
        self.topic_arn = topic["TopicArn"]
        queue = await sqs.create_queue(QueueName="demo-queue")
        attributes = await sqs.get_queue_attributes(QueueUrl=queue["QueueUrl"], AttributeNames=["QueueArn"])
        await self._sns.subscribe(
            TopicArn=self.topic_arn, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"]
        )
        await self._s3.create_bucket(Bucket=BUCKET)
        await self._s3.put_bucket_notification_configuration(
            Bucket=BUCKET,
            NotificationConfiguration={
                "TopicConfigurations": [{"TopicArn": self.topic_arn, "Events": ["s3:ObjectCreated:*"]}]
            },
        )
        return str(queue["QueueUrl"])

    async def _register_source(self, queue_url: str) -> None:
        # The emulator's long poll outlives a killed client and swallows the next message: short spans here.
        config = {
            "queue_url": queue_url,
            "region": REGION,
            "endpoint_url": self.aws_url,
            "wait_seconds": 1,
            "visibility_seconds": 2,
        }
        await self.call("POST", "/v1/sources", {"name": "demo-queue", "kind": "sqs", "config": config})

    async def _aws_answers(self) -> bool:
        return await self._answers(f"{self.aws_url}/moto-api/")

    async def _gateway_ready(self) -> bool:
        if self._gateway is not None and self._gateway.poll() is not None:
            said = "\n".join(self.gateway_log.read_text().splitlines()[-20:])
            raise StartError(f"The gateway ended with status {self._gateway.returncode}. Its last words:\n{said}")
        return await self._answers(f"{self.gateway_url}/readyz")

    async def _answers(self, url: str) -> bool:
        try:
            async with self.http.get(url) as answer:
                return answer.status == 200  # noqa: PLR2004 -- OK
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _wait(self, what: str, is_there: Callable[[], Awaitable[bool]]) -> None:
        if not await self.until(is_there, seconds=START_SECONDS):
            raise StartError(f"{what} did not answer within {START_SECONDS:.0f} s; is the machine very busy?")


def _gateway_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BUCKETPOST_")}
    return {
        **kept,
        **CREDENTIALS,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "BUCKETPOST_DATABASE_URL": "sqlite:///demo.db",
        "BUCKETPOST_DELIVERY__ALLOW_CIDRS": "127.0.0.0/8",
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
