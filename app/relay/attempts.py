"""One send of one batch: what it gave, what follows, and the line that tells of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from app.domain.configuration import Endpoint
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.ids import public_id
from app.domain.outcome import Outcome
from app.domain.ports import Destination
from app.domain.verdict import Verdict, judge
from app.telemetry import ATTEMPT_SECONDS, ATTEMPTS, IN_FLIGHT

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What every attempt of the process needs. `slots` bounds the sends in flight, first come first served."""

    destinations: Mapping[str, Destination]
    slots: asyncio.Semaphore
    monotonic: Callable[[], float]
    random: Callable[[], float]
    logs_delivered: bool

    def batch_limit(self, endpoint: Endpoint) -> int:
        """How many deliveries of an endpoint go into one send."""
        return self.destinations[endpoint.kind].batch_limit

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Try to deliver; a bug in a destination is an outcome too, so that one delivery cannot stop a lane."""
        started = self.monotonic()
        with IN_FLIGHT.track_inprogress():
            try:
                outcomes = await self.destinations[endpoint.kind].send(endpoint, batch)
                _check_count(outcomes, batch)
            except Exception as error:  # noqa: BLE001 -- a bug there must not stop the lane
                _log.exception("delivery.broke", endpoint_id=public_id("ep", endpoint.id))
                took = self.monotonic() - started
                text = f"internal error: {type(error).__name__}"
                outcomes = [Outcome(kind="unreachable", latency_seconds=took, error=text)] * len(batch)
        for outcome in outcomes:
            ATTEMPTS.labels(endpoint.kind, outcome.kind).inc()
            ATTEMPT_SECONDS.labels(endpoint.kind).observe(outcome.latency_seconds)
        return outcomes

    def conclude(self, lease: Lease, endpoint: Endpoint, owed: Owed, outcome: Outcome) -> Settlement:
        """Decide what follows from an outcome, and log it."""
        verdict = judge(
            outcome, failures=owed.failures + 1, schedule_seconds=endpoint.schedule_seconds, random=self.random()
        )
        self._tell(endpoint, owed, outcome, verdict)
        return Settlement(
            lease=lease,
            owed=owed,
            outcome=outcome,
            verdict=verdict,
            started_seconds_ago=outcome.latency_seconds,
        )

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


def _check_count(outcomes: Sequence[Outcome], batch: Sequence[Owed]) -> None:
    if len(outcomes) != len(batch):
        raise RuntimeError(f"{len(outcomes)} outcomes of {len(batch)} deliveries")
