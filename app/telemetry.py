"""What the process says of itself: the log's set-up and the metrics' names. Who logs what stands where it happens."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry()

EVENTS: Final = Counter(
    "bucketpost_events", "Events heard, by what became of them.", ["result"], registry=REGISTRY
)  # recorded, duplicate, quarantined
ATTEMPTS: Final = Counter(
    "bucketpost_attempts",
    "Attempts to deliver, by kind of endpoint and outcome.",
    ["kind", "outcome"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS: Final = Histogram(
    "bucketpost_attempt_seconds",
    "How long attempts took.",
    ["kind"],
    registry=REGISTRY,
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)
IN_FLIGHT: Final = Gauge("bucketpost_attempts_in_flight", "Attempts under way.", registry=REGISTRY)
_SLOTS_TAKEN: Final = Gauge(
    "bucketpost_slots_taken",
    "Attempts under way, by what their lane is: fast, slow, or probing whether its receiver is back.",
    ["lane_class"],
    registry=REGISTRY,
)
SLOTS_TAKEN: Final = {each: _SLOTS_TAKEN.labels(each) for each in ("fast", "slow", "probing")}
BREAKERS_OPENED: Final = Counter(
    "bucketpost_breakers_opened", "How often a lane was suspended because its receiver failed.", registry=REGISTRY
)
LANES_SUSPENDED: Final = Gauge(
    "bucketpost_lanes_suspended", "Lanes that nobody may have for now: their breakers are open.", registry=REGISTRY
)
RETRIES_SLID: Final = Counter(
    "bucketpost_retries_slid", "Retries put off because their lane's budget was spent.", registry=REGISTRY
)
WINDOW_BYTES: Final = Gauge(
    "bucketpost_window_bytes", "Bytes of deliveries that lanes have in memory.", registry=REGISTRY
)
LANES_HELD: Final = Gauge("bucketpost_lanes_held", "Lanes this replica holds a lease on.", registry=REGISTRY)
LEASES_LOST: Final = Counter(
    "bucketpost_leases_lost",
    "Leases that ran out before this replica was done and that others took.",
    registry=REGISTRY,
)
SETTLEMENTS_REFUSED: Final = Counter(
    "bucketpost_settlements_refused",
    "Retries and deaths not written down because their lease was lost; whoever has the lane tries them.",
    registry=REGISTRY,
)
CLOCK_SKEW: Final = Gauge(
    "bucketpost_clock_skew_seconds", "How far this machine's clock is ahead of the database's.", registry=REGISTRY
)
PUSHES: Final = Counter(
    "bucketpost_pushes", "Pushes heard, by road and what became of them.", ["road", "result"], registry=REGISTRY
)
MESSAGES_HELD: Final = Gauge(
    "bucketpost_messages_held", "Messages received and not yet acknowledged.", registry=REGISTRY
)
OLDEST_TRANSACTION_SECONDS: Final = Gauge(
    "bucketpost_database_oldest_transaction_seconds",
    "Age of the oldest transaction that keeps PostgreSQL from cleaning up dead rows.",
    registry=REGISTRY,
)
SNAPSHOT_AGE: Final = Gauge(
    "bucketpost_database_snapshot_age",
    "Transactions begun since the oldest snapshot or replication slot that keeps PostgreSQL from cleaning up.",
    registry=REGISTRY,
)
DEAD_ROWS: Final = Gauge(
    "bucketpost_outbox_dead_rows", "Dead rows of the outbox that PostgreSQL has not cleaned up.", registry=REGISTRY
)


def metrics_page() -> bytes:
    """Write every metric in Prometheus' text format."""
    return generate_latest(REGISTRY)


def configure_logging(
    *, form: Literal["auto", "json", "text"] = "auto", level: Literal["debug", "info", "warning", "error"] = "info"
) -> None:
    """Send every log line, also those of libraries, to stderr: JSON unless a terminal reads it."""
    is_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _cut_long_values,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if is_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiokafka", "botocore", "aiobotocore", "uvicorn", "alembic", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


_LONGEST_VALUE: Final = 2048


def _cut_long_values(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep a line short whatever a receiver or a key says; escaping control characters is the renderer's work."""
    for name, value in fields.items():
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            fields[name] = value[:_LONGEST_VALUE] + "…"
    return fields
