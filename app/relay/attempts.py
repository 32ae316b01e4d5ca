"""One send of one batch: what it gave, what follows, and the line that tells of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from app.domain.configuration import Endpoint
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.ids import public_id
from app.domain.order import place_of
from app.domain.outcome import Outcome
from app.domain.ports import Destination
from app.domain.verdict import LATE, Policy, Verdict, judge
from app.telemetry import ATTEMPT_SECONDS, ATTEMPTS, IN_FLIGHT

# Destinations keep the endpoint's time limit themselves. One that does not is cut off after this much more.
OVERTIME_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What every attempt of the process needs."""

    destinations: Mapping[str, Destination]
    monotonic: Callable[[], float]
    random: Callable[[], float]
    logs_delivered: bool

    def batch_limit(self, endpoint: Endpoint) -> int:
        """How many deliveries of an endpoint go into one send."""
        destination = self.destinations.get(endpoint.kind)
        return max(1, destination.batch_limit) if destination else 1

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Try to deliver; a bug in a destination is an outcome too: it must neither stop a lane nor send for ever."""
        started = self.monotonic()
        with IN_FLIGHT.track_inprogress():
            try:
                outcomes = await self._ask(endpoint, batch)
            except (Exception, asyncio.CancelledError) as error:
                if _is_cancelled(error):
                    raise
                _log.exception("delivery.broke", endpoint_id=public_id("ep", endpoint.id), kind=endpoint.kind)
                outcome = Outcome(
                    kind="timed_out" if isinstance(error, TimeoutError) else "unreachable",
                    latency_seconds=self.monotonic() - started,
                    error=f"internal error: {type(error).__name__}",
                )
                outcomes = [outcome] * len(batch)
        for outcome in outcomes:
            ATTEMPTS.labels(endpoint.kind, outcome.kind).inc()
            ATTEMPT_SECONDS.labels(endpoint.kind).observe(outcome.latency_seconds)
        return outcomes

    def conclude(self, lease: Lease, endpoint: Endpoint, owed: Owed, outcome: Outcome) -> Settlement:
        """Decide what follows from an outcome, and log it."""
        verdict = judge(
            outcome,
            failures=owed.failures + 1,
            age_seconds=owed.age_seconds,
            policy=Policy(
                schedule_seconds=endpoint.schedule_seconds,
                max_age_seconds=endpoint.max_age_seconds,
                answers=endpoint.answers,
            ),
            random=self.random(),
        )
        self._tell(endpoint, owed, outcome, verdict)
        return Settlement(
            lease=lease,
            owed=owed,
            # What an endpoint takes for a success is none of its failures.
            outcome=replace(outcome, error=None) if verdict.status == "delivered" else outcome,
            verdict=verdict,
            started_seconds_ago=outcome.latency_seconds,
            blocks=verdict.status == "dead" and _would_block(endpoint, owed),
            reached=reached_with(endpoint, owed) if verdict.status == "delivered" else None,
        )

    def drop(self, lease: Lease, owed: Owed) -> Settlement:
        """End a delivery that comes too late for its endpoint, without a try."""
        _log.info(
            "delivery.dropped",
            delivery_id=owed.idempotency_key,
            subscription_id=public_id("sub", owed.subscription_id),
            endpoint_id=public_id("ep", owed.endpoint_id),
            reason=LATE.reason,
        )
        return _untried(lease, owed, LATE)

    def expire(self, lease: Lease, owed: Owed, endpoint: Endpoint | None = None) -> Settlement:
        """End a delivery without a try: its event is no longer kept, or it is older than its endpoint wants."""
        _log.warning(
            "delivery.expired",
            delivery_id=owed.idempotency_key,
            subscription_id=public_id("sub", owed.subscription_id),
            endpoint_id=public_id("ep", owed.endpoint_id),
            tries=owed.tries,
        )
        ended = _untried(lease, owed, Verdict(status="dead", reason="expired"))
        return ended if endpoint is None else replace(ended, blocks=_would_block(endpoint, owed))

    def put_off(self, lease: Lease, owed: Owed, *, seconds: float) -> Settlement:
        """Let a delivery come again later without having tried it."""
        return _untried(lease, owed, Verdict(status="pending", delay_seconds=seconds))

    async def _ask(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        async with asyncio.timeout(endpoint.timeout_seconds + OVERTIME_SECONDS):
            outcomes = await self.destinations[endpoint.kind].send(endpoint, batch)
        if len(outcomes) != len(batch):
            raise ValueError(f"{len(outcomes)} outcomes for {len(batch)} deliveries")
        return outcomes

    def _tell(self, endpoint: Endpoint, owed: Owed, outcome: Outcome, verdict: Verdict) -> None:
        is_delivered = outcome.kind == "delivered"
        if is_delivered and not self.logs_delivered:
            return
        (_log.info if is_delivered else _log.warning)(
            "delivery.attempted",
            delivery_id=owed.idempotency_key,
            event_id=public_id("evt", owed.stored.event.id) if owed.stored else None,
            subscription_id=public_id("sub", owed.subscription_id),
            endpoint_id=public_id("ep", endpoint.id),
            kind=endpoint.kind,
            number=owed.tries + 1,
            outcome=outcome.kind,
            status_code=outcome.status_code,
            error=outcome.error,
            latency_ms=round(outcome.latency_seconds * 1000),
            status=verdict.status,
            reason=verdict.reason,
            delay_seconds=round(verdict.delay_seconds, 3) if verdict.status == "pending" else None,
        )


def _would_block(endpoint: Endpoint, owed: Owed) -> bool:
    return owed.order_key is not None and endpoint.ordering != "none" and endpoint.on_dead == "block"


def reached_with(endpoint: Endpoint, owed: Owed) -> bytes | None:
    """Give the place that a receiver comes to with a delivery, where its endpoint looks for late ones."""
    is_of_use = endpoint.late != "deliver" and owed.order_key is not None
    return place_of(owed.stored.event) if is_of_use and owed.stored else None


def _is_cancelled(error: BaseException) -> bool:
    """Tell a cancellation of this task from one that leaked out of a client library's own futures."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _untried(lease: Lease, owed: Owed, verdict: Verdict) -> Settlement:
    return Settlement(lease=lease, owed=owed, outcome=None, verdict=verdict, started_seconds_ago=0.0)
