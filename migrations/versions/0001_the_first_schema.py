"""The first schema; on PostgreSQL event and attempt are partitioned by day, and the store's upkeep makes the days."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.store.columns import Instant, now

revision: str = "0001"
down_revision: str | Sequence[str] | None = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("key_hash", name="uq_api_key_key_hash"),
    )
    op.create_table(
        "attempt",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_key", sa.LargeBinary(), nullable=False),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=False),
        sa.Column("subscription_id", sa.LargeBinary(), nullable=False),
        sa.Column("event_day", sa.Date(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("status_code", sa.SmallInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index(
        "ix_attempt_ended",
        "attempt",
        ["tenant_id", "created_at", "delivery_key"],
        postgresql_where=sa.text("ended IS NOT NULL"),
        sqlite_where=sa.text("ended IS NOT NULL"),
    )
    op.create_index("ix_attempt_tenant_id_delivery_key_number", "attempt", ["tenant_id", "delivery_key", "number"])
    op.create_table(
        "chore",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=True),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chore"),
    )
    op.create_table(
        "configuration_epoch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_configuration_epoch"),
    )
    op.create_table(
        "dead_letter",
        sa.Column("delivery_key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=False),
        sa.Column("subscription_id", sa.LargeBinary(), nullable=False),
        sa.Column("event_day", sa.Date(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_key", name="pk_dead_letter"),
    )
    op.create_index(
        "ix_dead_letter_tenant_id_created_at_delivery_key",
        "dead_letter",
        ["tenant_id", "created_at", "delivery_key"],
    )
    op.create_index("ix_dead_letter_ended_at", "dead_letter", ["ended_at"])
    op.create_table(
        "delivery",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_key", sa.LargeBinary(), nullable=False),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=False),
        sa.Column("subscription_id", sa.LargeBinary(), nullable=False),
        sa.Column("event_day", sa.Date(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), nullable=True),
        sa.Column("place", sa.LargeBinary(), nullable=True),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("failures", sa.SmallInteger(), nullable=False),
        sa.Column("blocks", sa.Boolean(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("owed_at", Instant(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("delivery_key", "lane_id", name="uq_delivery_delivery_key_lane_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_delivery_lane_id_due_at_id", "delivery", ["lane_id", "due_at", "id"])
    op.create_index("ix_delivery_subscription_id", "delivery", ["subscription_id"])
    op.create_index(
        "ix_delivery_in_order",
        "delivery",
        ["order_key", "lane_id", "id"],
        postgresql_where=sa.text("order_key IS NOT NULL"),
        sqlite_where=sa.text("order_key IS NOT NULL"),
    )
    op.create_index(
        "ix_delivery_oldest_in_order",
        "delivery",
        ["endpoint_id", "lane_id", "id"],
        postgresql_where=sa.text("order_key IS NOT NULL"),
        sqlite_where=sa.text("order_key IS NOT NULL"),
    )
    op.create_index(
        "ix_delivery_blocks", "delivery", ["id"], postgresql_where=sa.text("blocks"), sqlite_where=sa.text("blocks")
    )
    op.create_index(
        "ix_delivery_tenant_id_created_at_delivery_key", "delivery", ["tenant_id", "created_at", "delivery_key"]
    )
    op.create_table(
        "endpoint",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("ordering", sa.Text(), nullable=False),
        sa.Column("on_dead", sa.Text(), nullable=False),
        sa.Column("reorder_window_seconds", sa.Float(), nullable=False),
        sa.Column("late", sa.Text(), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("rate_limit_per_second", sa.Float(), nullable=True),
        sa.Column("schedule_seconds", sa.JSON(), nullable=False),
        sa.Column("max_age_seconds", sa.Float(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", Instant(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("deleted_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_endpoint"),
    )
    op.create_table(
        "event",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("event_day", sa.Date(), nullable=False),
        sa.Column("source_id", sa.LargeBinary(), nullable=True),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("received_key", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("sequencer", sa.Text(), nullable=True),
        sa.Column("time", Instant(), nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("source_ip", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("host_id", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", "event_day", name="pk_event"),
        postgresql_partition_by="RANGE (event_day)",
    )
    op.create_index("ix_event_tenant_id_recorded_at_id", "event", ["tenant_id", "recorded_at", "id"])
    op.create_table(
        "high_water",
        sa.Column("lane_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("order_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("family", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("lane_id", "order_key", "family", name="pk_high_water"),
    )
    op.create_index("ix_high_water_updated_at", "high_water", ["updated_at"])
    op.create_table(
        "idempotency_record",
        sa.Column("tenant_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key", name="pk_idempotency_record"),
    )
    op.create_index("ix_idempotency_record_made_at", "idempotency_record", ["made_at"])
    op.create_table(
        "lane",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.Column("wake_at", Instant(), nullable=False),
        sa.Column("last_served", Instant(), nullable=False),
        sa.Column("is_stopped", sa.Boolean(), nullable=False),
        sa.Column("breaker_until", Instant(), nullable=False),
        sa.Column("low_due", Instant(), nullable=False),
        sa.Column("low_due_id", sa.BigInteger(), nullable=False),
        sa.Column("low_id", sa.BigInteger(), nullable=False),
        sa.Column("next_low_id", sa.BigInteger(), nullable=False),
        sa.Column("next_low_xid", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", Instant(), nullable=True),
        sa.Column("last_failed_at", Instant(), nullable=True),
        sa.Column("recovering_until", Instant(), nullable=True),
        sa.Column("latency_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lane"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pulse",
        sa.Column("source_id", sa.LargeBinary(), nullable=False),
        sa.Column("replica_id", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("events_per_second", sa.Float(), nullable=False),
        sa.Column("lag_seconds", sa.Float(), nullable=True),
        sa.Column("queue_depth", sa.Integer(), nullable=True),
        sa.Column("queue_in_flight", sa.Integer(), nullable=True),
        sa.Column("queue_delayed", sa.Integer(), nullable=True),
        sa.Column("oldest_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "replica_id", name="pk_pulse"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", Instant(), nullable=False),
        sa.Column("last_seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_tenant_id_first_seen_at_id", "quarantine", ["tenant_id", "first_seen_at", "id"])
    op.create_index("ix_quarantine_source_id", "quarantine", ["source_id"])
    op.create_index("ix_quarantine_last_seen_at", "quarantine", ["last_seen_at"])
    op.create_table(
        "replay",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=True),
        sa.Column("key_prefix", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("since", Instant(), nullable=True),
        sa.Column("until", Instant(), nullable=True),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=True),
        sa.Column("subscription_id", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("new_keys", sa.Boolean(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("counted_all", sa.Boolean(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("owed", sa.BigInteger(), nullable=False),
        sa.Column("after_at", Instant(), nullable=True),
        sa.Column("after_id", sa.LargeBinary(), nullable=False),
        sa.Column("held_by", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=True),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_replay"),
    )
    op.create_index("ix_replay_tenant_id_created_at_id", "replay", ["tenant_id", "created_at", "id"])
    op.create_table(
        "replica",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replica"),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=True),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_received_at", Instant(), nullable=True),
        sa.Column("last_event_at", Instant(), nullable=True),
        sa.Column("test_event_at", Instant(), nullable=True),
        sa.Column("failing_since", Instant(), nullable=True),
        sa.Column("stalled_at", Instant(), nullable=True),
        sa.Column("stalled_by", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("deleted_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_source"),
    )
    op.create_table(
        "subscription",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.LargeBinary(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("hears_gateway", sa.Boolean(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("deleted_at", Instant(), nullable=True),
        sa.Column("emptied_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_subscription"),
    )
    op.create_index(
        "ix_subscription_tenant_id",
        "subscription",
        ["tenant_id"],
        postgresql_where=sa.text("hears_gateway"),
        sqlite_where=sa.text("hears_gateway"),
    )
    op.create_index(
        "ix_subscription_being_emptied",
        "subscription",
        ["id"],
        postgresql_where=sa.text("deleted_at IS NOT NULL AND emptied_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NOT NULL AND emptied_at IS NULL"),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
    )
    _seed()
    if op.get_bind().dialect.name == "postgresql":
        _tune_postgresql()


def _seed() -> None:
    tenant = sa.table("tenant", sa.column("id"), sa.column("name"), sa.column("created_at"))
    epoch = sa.table("configuration_epoch", sa.column("id"), sa.column("epoch"))
    chore = sa.table("chore", sa.column("name"), sa.column("lease_until"), sa.column("due_at"))
    op.execute(tenant.insert().values(id=1, name="default", created_at=now()))
    op.execute(epoch.insert().values(id=1, epoch=1))
    for name in ("replay", "sweep", "upkeep"):
        op.execute(chore.insert().values(name=name, lease_until=now(), due_at=now()))


def _tune_postgresql() -> None:
    # Events whose own day has no partition: long ago, far ahead, or forged. Pruned by arrival.
    # From the least value, since asyncpg writes Python's first day as -infinity.
    op.execute("CREATE TABLE event_other PARTITION OF event FOR VALUES FROM (MINVALUE) TO ('0001-01-02')")
    # Every lease rewrites a lane's row: room on the page keeps that a HOT update, and vacuum comes soon.
    op.execute(
        "ALTER TABLE lane SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)"
    )
    op.execute("ALTER TABLE delivery SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.01)")
