"""The tables of what comes and goes: events, what is owed, what became of it, and who works on it.

What people set up stands in schema.py. PostgreSQL partitions event and attempt by day.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from app.store.columns import Instant
from app.store.schema import metadata, row_number

# The queue of one endpoint and the thing that is leased. No index but the key: every lease is then a HOT update.
lane = Table(
    "lane",
    metadata,
    Column("id", row_number(), Identity(), primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("endpoint_id", LargeBinary, nullable=False),
    Column("owner", LargeBinary),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("wake_at", Instant, nullable=False),
    Column("last_served", Instant, nullable=False),
    Column("is_stopped", Boolean, nullable=False),  # its endpoint is paused or disabled: nobody leases it
    Column("breaker_until", Instant, nullable=False),
    # Nothing it owes comes before these, by due time and by number: low_water.py.
    Column("low_due", Instant, nullable=False),
    Column("low_due_id", BigInteger, nullable=False),
    Column("low_id", BigInteger, nullable=False),
    Column("next_low_id", BigInteger, nullable=False),
    Column("next_low_xid", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),  # in a row, over all its deliveries
    Column("failing_since", Instant),
    Column("last_failed_at", Instant),
    Column("recovering_until", Instant),  # after an outage, what came in it is played back, twice as long at most
    Column("latency_seconds", Float, nullable=False),  # moving average
    sqlite_autoincrement=True,  # a lane's id, like a row's in the outbox, is never another's
)

replica = Table(
    "replica",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
)

# What a replica measured of a source lately; what the living ones measured adds up.
pulse = Table(
    "pulse",
    metadata,
    Column("source_id", LargeBinary, primary_key=True),
    Column("replica_id", LargeBinary, primary_key=True),
    Column("seen_at", Instant, nullable=False),
    Column("events_per_second", Float, nullable=False),
    Column("lag_seconds", Float),
    Column("queue_depth", Integer),
    Column("queue_in_flight", Integer),
    Column("queue_delayed", Integer),
    Column("oldest_seconds", Float),
)

# Work that one replica at a time does, claimed like a lane.
chore = Table(
    "chore",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", LargeBinary),
    Column("lease_until", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
)

# The record once, its original bytes kept. The day leads nothing: an event is looked up by id in every partition.
event = Table(
    "event",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    Column("event_day", Date, primary_key=True),
    Column("source_id", LargeBinary),
    Column("recorded_at", Instant, nullable=False),
    Column("type", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("received_key", Text, nullable=False),
    Column("version_id", Text),
    Column("size", BigInteger),
    Column("etag", Text),
    Column("sequencer", Text),
    Column("time", Instant, nullable=False),
    Column("region", Text),
    Column("actor", Text),
    Column("source_ip", Text),
    Column("request_id", Text),
    Column("host_id", Text),
    Column("extra", Text),
    Column("dialect", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index(None, "tenant_id", "recorded_at", "id"),
    postgresql_partition_by="RANGE (event_day)",
)

# The outbox: a row lives only while it is owed. Rows of a lane with the same order_key go one after the other, by id.
# No id is given out twice, also on SQLite: a replica may still speak of a row that is gone.
delivery = Table(
    "delivery",
    metadata,
    Column("id", row_number(), Identity(), primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("lane_id", BigInteger, nullable=False),
    Column("delivery_key", LargeBinary, nullable=False),
    Column("endpoint_id", LargeBinary, nullable=False),
    Column("subscription_id", LargeBinary, nullable=False),
    Column("event_day", Date, nullable=False),
    Column("event_id", LargeBinary, nullable=False),
    Column("order_key", BigInteger),
    Column("place", LargeBinary),  # the event's, where its endpoint minds places; NULL for what a person asked for
    Column("tries", SmallInteger, nullable=False),
    Column("failures", SmallInteger, nullable=False),
    Column("blocks", Boolean, nullable=False),  # dead, and those that come after it wait until somebody sees to it
    Column("due_at", Instant, nullable=False),
    Column("owed_at", Instant, nullable=False),  # its age counts from here, when it was first due; or owed anew
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("delivery_key", "lane_id"),
    Index(None, "lane_id", "due_at", "id"),
    Index(None, "subscription_id"),  # what a deleted subscription still owes, on whichever lanes
    Index(None, "tenant_id", "created_at", "delivery_key"),
    sqlite_autoincrement=True,  # as a lane's id
)

# No two of its indexes begin with the same column, so that a look at a place in one of them (owed.py, low_water.py) can
# be answered by no other, whatever the planner knows of the rows: it would read and sort all that a lane owes.
Index(
    "ix_delivery_in_order",
    delivery.c.order_key,
    delivery.c.lane_id,
    delivery.c.id,
    postgresql_where=delivery.c.order_key.is_not(None),
    sqlite_where=delivery.c.order_key.is_not(None),
)
Index(
    "ix_delivery_oldest_in_order",
    delivery.c.endpoint_id,
    delivery.c.lane_id,
    delivery.c.id,
    postgresql_where=delivery.c.order_key.is_not(None),
    sqlite_where=delivery.c.order_key.is_not(None),
)

Index(
    "ix_delivery_blocks",
    delivery.c.id,
    postgresql_where=delivery.c.blocks,
    sqlite_where=delivery.c.blocks,
)

# Append-only history by day, without a key: a late success may repeat a number.
# `ended` is set on the one row that ended the delivery: lists of what is over read those.
attempt = Table(
    "attempt",
    metadata,
    Column("day", Date, nullable=False),
    Column("tenant_id", BigInteger, nullable=False),
    Column("delivery_key", LargeBinary, nullable=False),
    Column("endpoint_id", LargeBinary, nullable=False),
    Column("subscription_id", LargeBinary, nullable=False),
    Column("event_day", Date, nullable=False),
    Column("event_id", LargeBinary, nullable=False),
    Column("number", SmallInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("latency_ms", Integer),
    Column("outcome", Text),
    Column("status_code", SmallInteger),
    Column("error", Text),
    Column("response", LargeBinary),
    Column("ended", Text),
    Column("reason", Text),
    Column("ended_at", Instant),
    Column("created_at", Instant, nullable=False),  # the delivery's, so that a list keeps its place when it ends
    Index(None, "tenant_id", "delivery_key", "number"),
    postgresql_partition_by="RANGE (day)",
)
Index(
    "ix_attempt_ended",
    attempt.c.tenant_id,
    attempt.c.created_at,
    attempt.c.delivery_key,
    postgresql_where=attempt.c.ended.is_not(None),
    sqlite_where=attempt.c.ended.is_not(None),
)

# Deliveries given up: all that is needed to owe them again.
dead_letter = Table(
    "dead_letter",
    metadata,
    Column("delivery_key", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("lane_id", BigInteger, nullable=False),
    Column("endpoint_id", LargeBinary, nullable=False),
    Column("subscription_id", LargeBinary, nullable=False),
    Column("event_day", Date, nullable=False),
    Column("event_id", LargeBinary, nullable=False),
    Column("order_key", BigInteger),
    Column("tries", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Index(None, "tenant_id", "created_at", "delivery_key"),
    Index(None, "ended_at"),
)

# How far the receiver of a lane has come with an object: the newest place it was delivered, for each family of places.
high_water = Table(
    "high_water",
    metadata,
    Column("lane_id", BigInteger, primary_key=True, autoincrement=False),
    Column("order_key", BigInteger, primary_key=True, autoincrement=False),
    Column("family", SmallInteger, primary_key=True, autoincrement=False),
    Column("place", LargeBinary, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index(None, "updated_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("source_id", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Index(None, "tenant_id", "first_seen_at", "id"),
    Index(None, "source_id"),
    Index(None, "last_seen_at"),
)
