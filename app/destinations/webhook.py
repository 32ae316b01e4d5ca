"""Deliveries by HTTP: one signed POST each, to wherever the guard lets it go.

What may be set is in webhook_config.py, what an answer means in answer.py.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from app.destinations.answer import READ_BYTES, Answer, explain, parse_retry_after
from app.destinations.formats import http_message
from app.destinations.signing import sign
from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome
from app.domain.ports import Now
from app.outbound.guard import Network, guarded_socket, parse_url, private_judge
from app.outbound.nameservers import Nameserver, ask_nameservers
from app.outbound.resolver import LOOKUP_SECONDS, GuardedResolver, ask_system

CLOSE_SECONDS: Final = 2.0
# Beyond this aiohttp warns of bytes that are written in one piece.
LARGEST_PIECE: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    url: URL
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class _Progress:
    """How far a try came: told by aiohttp's traces, and by reading. `started_at` moves on when the request is sent."""

    started_at: float
    is_reused: bool = False
    answer: Answer | None = None

    def latency(self) -> float:
        return asyncio.get_running_loop().time() - self.started_at


@dataclass(slots=True, kw_only=True)
class Webhook:
    """Serves every webhook of the process; whatever a receiver does, a try ends in time and 16 KiB."""

    allow_cidrs: Sequence[Network]
    version: str
    now: Now
    nameservers: Sequence[Nameserver] = ()
    _kept_alive: aiohttp.ClientSession | None = field(default=None, init=False)
    _fresh: aiohttp.ClientSession | None = field(default=None, init=False)

    @classmethod
    def open(
        cls, *, allow_cidrs: Sequence[Network], version: str, now: Now, nameservers: Sequence[Nameserver] = ()
    ) -> Self:
        """Make one; nothing is connected before the first send. `now` dates signatures and reads others' dates."""
        return cls(allow_cidrs=tuple(allow_cidrs), version=version, now=now, nameservers=tuple(nameservers))

    @property
    def batch_limit(self) -> int:
        """One: a request carries one delivery, so more at a time are more sends in flight."""
        return 1

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """POST each of the batch, all at once; as Destination promises."""
        if len(batch) == 1:
            return [await self._send_one(endpoint, batch[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send_one(endpoint, owed)) for owed in batch]
        return [task.result() for task in tasks]

    async def aclose(self) -> None:
        """Drop all connections; a try still under way breaks."""
        async with asyncio.timeout(CLOSE_SECONDS):
            for session in (self._kept_alive, self._fresh):
                if session is not None:
                    await session.close()

    async def _send_one(self, endpoint: Endpoint, owed: Owed) -> Outcome:
        progress = _Progress(started_at=asyncio.get_running_loop().time())
        try:
            request = self._request(endpoint, owed)
            async with asyncio.timeout(endpoint.timeout_seconds):
                answer = await self._post(request, progress)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if progress.answer is None:
                return explain(error, latency_seconds=progress.latency(), timeout_seconds=endpoint.timeout_seconds)
            # The status is the answer, even if the body after it broke off or did not end in time.
            answer = progress.answer
        return answer.outcome(progress.latency())

    def _request(self, endpoint: Endpoint, owed: Owed) -> _Request:
        message = http_message(owed)
        key, timestamp = owed.idempotency_key, int(self.now().timestamp())
        own = endpoint.config.get("headers")
        headers = {name: str(value) for name, value in own.items()} if isinstance(own, dict) else {}
        headers |= message.headers
        headers |= {
            "User-Agent": f"Bucketpost/{self.version}",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": str(timestamp),
        }
        if owed.is_late:
            headers["Bucketpost-Late"] = "true"
        if endpoint.secret is not None:
            headers["webhook-signature"] = sign(endpoint.secret, message_id=key, timestamp=timestamp, body=message.body)
        return _Request(url=parse_url(str(endpoint.config["url"])), headers=headers, body=message.body)

    async def _post(self, request: _Request, progress: _Progress) -> Answer:
        if self._kept_alive is None:
            self._kept_alive = self._session(force_close=False)
        try:
            return await self._exchange(self._kept_alive, request, progress)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # A receiver may close an idle connection at the moment it is used again: that says nothing of the
            # receiver, so it does not cost a try. Anything else, and a second time, does.
            if not progress.is_reused or progress.answer is not None or not _is_silent(error):
                raise
        if self._fresh is None:
            self._fresh = self._session(force_close=True)
        return await self._exchange(self._fresh, request, progress)

    async def _exchange(self, session: aiohttp.ClientSession, request: _Request, progress: _Progress) -> Answer:
        body = request.body if len(request.body) <= LARGEST_PIECE else io.BytesIO(request.body)
        async with session.post(
            request.url, data=body, headers=request.headers, allow_redirects=False, trace_request_ctx=progress
        ) as response:
            progress.answer = answer = Answer(
                status=response.status,
                retry_after_seconds=parse_retry_after(response.headers.get("Retry-After"), self.now()),
            )
            await answer.read(response)
        return answer

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        judge = private_judge(self.allow_cidrs)
        ask = ask_nameservers(self.nameservers, within_seconds=LOOKUP_SECONDS) if self.nameservers else ask_system
        traces = aiohttp.TraceConfig()
        traces.on_connection_reuseconn.append(_note_reuse)
        traces.on_request_headers_sent.append(_note_sent)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the relay bounds what is in flight, for each endpoint and in all
                resolver=GuardedResolver(judge, ask=ask),
                socket_factory=guarded_socket(judge),
                use_dns_cache=False,
                force_close=force_close,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding"),
            read_bufsize=READ_BYTES,
            trace_configs=[traces],
        )


def _is_silent(error: Exception) -> bool:
    """Tell whether the connection went without a byte of an answer: of a started one aiohttp keeps what it parsed."""
    return not isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.message, str)


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.is_reused = True


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.started_at = asyncio.get_running_loop().time()
