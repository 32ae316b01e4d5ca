"""Several replicas on one database, with receivers set up and a source to push to."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.bed import wiring
from tests.bed.faults.witness import Witness
from tests.bed.gateway import Gateway
from tests.bed.process import until

MakeGateway = Callable[..., Gateway]


class Cluster:
    """The replicas of an experiment; `key` of the first is the key of all."""

    def __init__(
        self, make_gateway: MakeGateway, database_url: str, *, replicas: int = 3, env: Mapping[str, str] | None = None
    ) -> None:
        self.replicas: list[Gateway] = []
        self._make_gateway, self._database_url = make_gateway, database_url
        self._count, self._env = replicas, dict(env or {})
        self._source: dict[str, Any] = {}
        self._key: str | None = None
        self._retired: list[Gateway] = []
        self.stopped: set[Gateway] = set()

    @property
    def first(self) -> Gateway:
        """Give the replica that others of the test talk to."""
        return self.replicas[0]

    @property
    def token(self) -> str:
        """Give the token of the source."""
        token: str = self._source["token"]
        return token

    async def start(self) -> None:
        """Start all and make the source."""
        first = await self.add("replica-0")
        for number in range(1, self._count):
            await self.add(f"replica-{number}")
        self._source = await first.api.post("/sources", {"name": "store", "kind": "http", "config": {}})

    async def add(self, name: str, *, database_url: str | None = None, env: Mapping[str, str] | None = None) -> Gateway:
        """Start one more, ready when this returns."""
        self._key = await self.first.key() if self.replicas else None
        replica = self.make(name, database_url=database_url, env=env)
        self.replicas.append(replica)
        replica.start()
        await replica.ready(within=60)
        return replica

    def make(self, name: str, *, database_url: str | None = None, env: Mapping[str, str] | None = None) -> Gateway:
        """Make one that is not started and is none of the replicas, to run short commands."""
        return self._make_gateway(
            name=name,
            database_url=database_url or self._database_url,
            key=self._key,
            env={**self._env, **(env or {})},
        )

    async def retire(self, replica: Gateway) -> None:
        """Stop one in order and for good; another is the first from then on, if it was."""
        self.replicas.remove(replica)
        self._retired.append(replica)
        ended = await replica.terminate()
        assert ended.status == 0, replica.process.tail()

    async def add_receivers(
        self, witness: Witness, paths: Sequence[str], *, host: str | None = None, **fields: Any
    ) -> dict[str, dict[str, Any]]:
        """Register a webhook for each path, which takes the objects whose keys begin with the path's name and a slash.

        `/7` takes `7/cat.jpg`. `host` is a name for this machine. Gives the endpoints by path.
        """
        made = {}
        for path in paths:
            wanted = {"key_prefix": f"{path.removeprefix('/')}/"}
            made[path] = await wiring.add_webhook(self.first.api, witness.url(path, host=host), wanted=wanted, **fields)
            await witness.verify(path, made[path]["secret"])
        return made

    @property
    def push_path(self) -> str:
        """Give where the source is pushed to, the same at every replica."""
        return f"/v1/ingest/s3/{self._source['id']}"

    def urls(self) -> list[str]:
        """Give the source's URL at every replica that runs and was not stopped."""
        running = [each for each in self.replicas if each.process.is_running and each not in self.stopped]
        return [each.url + self.push_path for each in running]

    def stall(self, replica: Gateway) -> None:
        """Stop a replica as a machine that hangs: it does nothing, its connections stay."""
        self.stopped.add(replica)
        replica.process.send(signal.SIGSTOP)

    def go_on(self, replica: Gateway) -> None:
        """Let a stalled replica go on."""
        replica.process.send(signal.SIGCONT)
        self.stopped.discard(replica)

    async def drained(self, *, within: float) -> None:
        """Wait until nothing is owed any more."""
        await until(self._owes_nothing, within=within, what="nothing is owed")

    async def given_up(self, paths: Mapping[str, Mapping[str, Any]]) -> set[tuple[str, str, int]]:
        """List the dead deliveries of receivers as the oracle wants them: path, key, number."""
        found = set()
        for path, endpoint in paths.items():
            cursor: str | None = ""
            while cursor is not None:
                query = {"status": "dead", "endpoint_id": endpoint["id"], "limit": 500}
                page = await self.first.api.get("/deliveries", **query, **({"cursor": cursor} if cursor else {}))
                events = [await self.first.api.get(f"/events/{each['event_id']}") for each in page["data"]]
                found |= {(path, each["key"], each["size"]) for each in events}
                cursor = page["next_cursor"]
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give what all replicas logged under a name."""
        return [line for replica in (*self.replicas, *self._retired) for line in replica.logged(event)]

    async def _owes_nothing(self) -> bool:
        try:
            page = await self.first.api.get("/deliveries", status="pending", limit=1)
        except (OSError, TimeoutError, AssertionError):
            await asyncio.sleep(0.2)
            return False
        await asyncio.sleep(0.1)
        return not page["data"]
