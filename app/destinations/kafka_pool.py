"""Which Kafka producers there are: each is with one batch, or idle, or on its way out.

How one works is in kafka_producer.py.
"""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from app.destinations.kafka_config import parse_servers
from app.destinations.kafka_producer import Producer
from app.outbound.guard import AddressRefused, judge_metadata
from app.outbound.resolver import GuardedResolver

IDLE_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 4.5

Target = tuple[str, str]
"""Bootstrap servers and topic."""


class Producers:
    """The producers of a process, by target."""

    def __init__(self) -> None:
        self._idle: defaultdict[Target, list[tuple[float, Producer]]] = defaultdict(list)
        self._in_use: dict[Producer, Target] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._resolver = GuardedResolver(judge_metadata)

    async def take(self, target: Target) -> Producer:
        """Give an idle producer or start one. Raises AddressRefused and PRODUCER_ERRORS; may be cancelled.

        It is the caller's until given back or given up.
        """
        while self._idle[target]:
            _, producer = self._idle[target].pop()
            if producer.is_usable:
                self._in_use[producer] = target
                return producer
            self.give_up(producer)
        return await self._start(target)

    def give_back(self, producer: Producer) -> None:
        """Keep a producer that has nothing under way; those idle for long are closed."""
        now = asyncio.get_running_loop().time()
        target = self._in_use.pop(producer, None)
        if target is None:  # closed meanwhile
            return
        self._idle[target].append((now, producer))
        for each, rested in list(self._idle.items()):
            for since, old in list(rested):
                if now - since > IDLE_SECONDS:
                    rested.remove((since, old))
                    self.give_up(old)
            if not rested:
                del self._idle[each]

    def give_up(self, producer: Producer) -> asyncio.Task[None]:
        """Let nothing more of a producer go out, from this moment on; the task ends when it is freed."""
        self._in_use.pop(producer, None)
        producer.halt()
        task = asyncio.create_task(producer.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def aclose(self) -> None:
        """Give up all of them, within CLOSE_SECONDS."""
        self._is_closed = True
        idle = [producer for rested in self._idle.values() for _, producer in rested]
        self._idle.clear()
        for producer in [*idle, *self._in_use]:
            self.give_up(producer)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_SECONDS)

    async def _start(self, target: Target) -> Producer:
        if self._is_closed:
            raise ConnectionError("The gateway is stopping.")
        await self._check_hosts(host for host, _ in parse_servers(target[0]))
        producer = Producer(*target)
        self._in_use[producer] = target
        try:
            await producer.start()
            # Known only now, and connected to by now: a broker may point to wherever it likes.
            await self._check_hosts(producer.broker_hosts())
        except BaseException:
            self.give_up(producer)
            raise
        return producer

    async def _check_hosts(self, hosts: Iterable[str]) -> None:
        """Refuse a host that is, or now means, a metadata service. A name without an answer may find one later."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._refusal(host)) for host in hosts]
        for task in tasks:
            if task.result() is not None:
                raise AddressRefused(task.result())

    async def _refusal(self, host: str) -> str | None:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return judge_metadata(host)
        try:
            await self._resolver.resolve(host)
        except AddressRefused as error:
            return str(error)
        except OSError:
            return None
        return None
