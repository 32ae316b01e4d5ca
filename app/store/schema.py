"""The tables of what people set up and ask for: tenants, keys, endpoints, subscriptions, sources, replays.

What comes and goes by itself stands in outbox_schema.py. All are the same on both databases. Migrations build them; a
test holds the two against each other. Nothing here runs a statement.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    and_,
    text,
)

from app.store.columns import Instant

# The newest revision of migrations/; `serve` compares it without loading alembic. A test keeps it true.
REVISION: Final = "0001"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def row_number() -> BigInteger:
    """Give the type of numbers that the database gives out."""
    # SQLite gives out numbers by itself only for a column typed INTEGER.
    return BigInteger().with_variant(Integer(), "sqlite")


tenant = Table(
    "tenant",
    metadata,
    Column("id", row_number(), primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of a random key needs no salt
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
)

# One row; every change of endpoints, subscriptions or sources adds one to it in the same transaction.
configuration_epoch = Table(
    "configuration_epoch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
)

source = Table(
    "source",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("config", JSON, nullable=False),
    Column("token_hash", LargeBinary),  # SHA-256, as of a key
    Column("is_paused", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_error", Text),
    Column("last_received_at", Instant),
    Column("last_event_at", Instant),
    Column("test_event_at", Instant),
    Column("failing_since", Instant),
    Column("stalled_at", Instant),
    Column("stalled_by", Text),  # which sign of a stall it was: it ends when that sign does
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
)

endpoint = Table(
    "endpoint",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("config", JSON, nullable=False),
    Column("secret", LargeBinary),
    Column("ordering", Text, nullable=False),
    Column("on_dead", Text, nullable=False),
    Column("reorder_window_seconds", Float, nullable=False),
    Column("late", Text, nullable=False),
    Column("timeout_seconds", Float, nullable=False),
    Column("max_in_flight", Integer, nullable=False),
    Column("rate_limit_per_second", Float),
    Column("schedule_seconds", JSON, nullable=False),
    Column("max_age_seconds", Float, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("disabled_at", Instant),
    Column("disabled_reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
)

# `emptied_at`: when nothing was owed through a deleted subscription any more. `hears_gateway`: its filter names
# operator events; who has one to tell finds the few it goes to by that.
subscription = Table(
    "subscription",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("endpoint_id", LargeBinary, nullable=False),
    Column("filter", JSON, nullable=False),
    Column("hears_gateway", Boolean, nullable=False),
    Column("format", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Column("emptied_at", Instant),
    Index(None, "tenant_id", postgresql_where=text("hears_gateway"), sqlite_where=text("hears_gateway")),
)

# Those that are being emptied: every fetch asks for them, and there may be many others.
_IS_BEING_EMPTIED: Final = and_(subscription.c.deleted_at.is_not(None), subscription.c.emptied_at.is_(None))
Index(
    "ix_subscription_being_emptied",
    subscription.c.id,
    postgresql_where=_IS_BEING_EMPTIED,
    sqlite_where=_IS_BEING_EMPTIED,
)

# A job that owes deliveries again; `after_at` and `after_id` are the place it has come to. `held_by`: the endpoint that
# it waits for, since its lane is behind. From `begun_at` on nobody records anything by a set-up older than the job.
replay = Table(
    "replay",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("bucket", Text),
    Column("key_prefix", LargeBinary, nullable=False),
    Column("type", Text),
    Column("since", Instant),
    Column("until", Instant),
    Column("endpoint_id", LargeBinary),
    Column("subscription_id", LargeBinary),
    Column("status", Text),
    Column("new_keys", Boolean, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("counted_all", Boolean, nullable=False),
    Column("looked_at", BigInteger, nullable=False),
    Column("owed", BigInteger, nullable=False),
    Column("after_at", Instant),
    Column("after_id", LargeBinary, nullable=False),
    Column("held_by", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Column("begun_at", Instant),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index(None, "tenant_id", "created_at", "id"),
)

# What was answered to a request that came with an idempotency key. Without a status it is
# under way until its lease ends.
idempotency_record = Table(
    "idempotency_record",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", SmallInteger),
    Column("answer", LargeBinary),
    Column("lease_until", Instant, nullable=False),
    Column("made_at", Instant, nullable=False),
    Index(None, "made_at"),
)
