"""The set-up and its epoch, over SQLite and PostgreSQL: rows, soft deletion, keys, and changes that come at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import DEFAULT_MAX_AGE_SECONDS, DEFAULT_SCHEDULE_SECONDS, Endpoint, Filter, Subscription
from app.domain.ids import DEFAULT_TENANT, EndpointId, SourceId, SubscriptionId, TenantId
from app.store import endpoints, keys, outbox_schema, schema, sources, subscriptions
from app.store.configuration import SqlConfigurationStore
from app.store.database import Database
from app.store.endpoints import NewEndpoint
from app.store.epoch import lock_changes
from app.store.migrate import migrate
from app.store.place import Place
from app.store.sources import NewSource
from app.store.subscriptions import NewSubscription

OTHER_TENANT = TenantId(2)
NEW_ENDPOINT = NewEndpoint(
    name="inbox",
    kind="webhook",
    config={"url": "https://example.com/hook", "headers": {"X-Team": "photos"}},
    secret=b"s" * 24,
    ordering="none",
    timeout_seconds=15.0,
    max_in_flight=8,
    on_dead="skip",
    reorder_window_seconds=0.0,
    late="deliver",
    rate_limit_per_second=None,
    schedule_seconds=DEFAULT_SCHEDULE_SECONDS,
    max_age_seconds=DEFAULT_MAX_AGE_SECONDS,
    answers={},
    is_paused=False,
)
NEW_SOURCE = NewSource(name="uploads", kind="sqs", config={"queue_url": "https://sqs.example.com/1/q"})


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Give a migrated database."""
    opened = Database(database_url)
    await migrate(opened)
    yield opened
    await opened.aclose()


@pytest.fixture
def store(database: Database) -> SqlConfigurationStore:
    """Give the store under test."""
    return SqlConfigurationStore(database)


async def _add_endpoint(database: Database, name: str = "inbox") -> Endpoint:
    async with database.write() as connection:
        return await endpoints.create(connection, DEFAULT_TENANT, replace(NEW_ENDPOINT, name=name))


async def _add_subscription(database: Database, endpoint_id: EndpointId) -> Subscription:
    new = NewSubscription(
        name="cats",
        endpoint_id=endpoint_id,
        filter=Filter(buckets=("photos",), events=("s3:ObjectCreated:*",), key_prefix="cats/", key_suffix=".jpg"),
        format="standard",
    )
    async with database.write() as connection:
        return await subscriptions.create(connection, DEFAULT_TENANT, new)


async def test_an_empty_database_has_an_empty_set_up(store: SqlConfigurationStore) -> None:
    """The first epoch has nothing in it."""
    loaded = await store.load()

    assert loaded.epoch == await store.epoch()
    assert (loaded.endpoints, loaded.subscriptions, loaded.sources) == ({}, {}, {})


async def test_what_is_created_is_loaded_as_it_was(database: Database, store: SqlConfigurationStore) -> None:
    """Each noun reads back equal to what its creation gave."""
    endpoint = await _add_endpoint(database)
    subscription = await _add_subscription(database, endpoint.id)
    async with database.write() as connection:
        source = await sources.create(connection, DEFAULT_TENANT, NEW_SOURCE)

    loaded = await store.load()

    assert loaded.endpoints == {endpoint.id: endpoint}
    assert loaded.subscriptions == {subscription.id: subscription}
    assert loaded.sources == {source.id: source}


async def test_an_endpoint_has_a_lane_that_sleeps(database: Database) -> None:
    """Its lane is there from the start, leased by nobody and with nothing due."""
    endpoint = await _add_endpoint(database)

    async with database.read() as connection:
        [lane] = (await connection.execute(select(outbox_schema.lane))).all()

    assert (lane.id, lane.endpoint_id, lane.owner, lane.fence) == (endpoint.lane_id, endpoint.id, None, 0)
    assert lane.wake_at > lane.lease_until


async def test_every_change_has_an_epoch_of_its_own(database: Database, store: SqlConfigurationStore) -> None:
    """Creating, changing and deleting each add one."""
    seen = [await store.epoch()]
    endpoint = await _add_endpoint(database)
    seen.append(await store.epoch())
    subscription = await _add_subscription(database, endpoint.id)
    seen.append(await store.epoch())
    async with database.write() as connection:
        source = await sources.create(connection, DEFAULT_TENANT, NEW_SOURCE)
    seen.append(await store.epoch())
    async with database.write() as connection:
        await endpoints.change(connection, replace(endpoint, name="other"))
    seen.append(await store.epoch())
    async with database.write() as connection:
        await subscriptions.change(connection, replace(subscription, name="other"))
    seen.append(await store.epoch())
    async with database.write() as connection:
        await sources.change(connection, replace(source, name="other"))
    seen.append(await store.epoch())
    async with database.write() as connection:
        await subscriptions.delete(connection, DEFAULT_TENANT, subscription.id)
    seen.append(await store.epoch())
    async with database.write() as connection:
        await endpoints.delete(connection, DEFAULT_TENANT, endpoint.id)
    seen.append(await store.epoch())
    async with database.write() as connection:
        await sources.delete(connection, DEFAULT_TENANT, source.id)
    seen.append(await store.epoch())

    assert seen == list(range(seen[0], seen[0] + 10))


async def test_a_change_reads_back_and_is_dated(database: Database, store: SqlConfigurationStore) -> None:
    """What may change is changed, what may not stays, and updated_at moves on."""
    before = await _add_endpoint(database)
    wanted = replace(
        before,
        name="b",
        config={"url": "https://b.example"},
        timeout_seconds=2.5,
        max_in_flight=1,
        schedule_seconds=(),
        ordering="key",
        on_dead="block",
        reorder_window_seconds=2.5,
        late="mark",
        rate_limit_per_second=9.5,
        max_age_seconds=60.0,
        answers={"404": "die"},
        is_paused=True,
    )

    async with database.write() as connection:
        after = await endpoints.change(connection, wanted)

    assert after == replace(wanted, updated_at=after.updated_at)
    assert after.updated_at > before.updated_at
    assert (await store.load()).endpoints == {after.id: after}


async def test_a_deleted_endpoint_takes_its_subscriptions(database: Database, store: SqlConfigurationStore) -> None:
    """Both leave the set-up at once, their rows stay, and others are not touched."""
    gone, stays = await _add_endpoint(database), await _add_endpoint(database)
    dropped, kept = await _add_subscription(database, gone.id), await _add_subscription(database, stays.id)

    async with database.write() as connection:
        is_deleted = await endpoints.delete(connection, DEFAULT_TENANT, gone.id)

    loaded = await store.load()
    assert is_deleted
    assert set(loaded.endpoints) == {stays.id}
    assert set(loaded.subscriptions) == {kept.id}
    async with database.read() as connection:
        rows = (await connection.execute(select(schema.subscription.c.id, schema.subscription.c.deleted_at))).all()
    assert {row.id: row.deleted_at is not None for row in rows} == {dropped.id: True, kept.id: False}


async def test_what_is_deleted_is_not_found_again(database: Database) -> None:
    """Neither finding nor deleting a second time knows it."""
    endpoint = await _add_endpoint(database)
    subscription = await _add_subscription(database, endpoint.id)
    async with database.write() as connection:
        source = await sources.create(connection, DEFAULT_TENANT, NEW_SOURCE)

    async with database.write() as connection:
        first = await _delete_all(connection, endpoint.id, subscription.id, source.id)
        second = await _delete_all(connection, endpoint.id, subscription.id, source.id)

    async with database.read() as connection:
        found = (
            await endpoints.find(connection, DEFAULT_TENANT, endpoint.id),
            await subscriptions.find(connection, DEFAULT_TENANT, subscription.id),
            await sources.find(connection, DEFAULT_TENANT, source.id),
        )
    assert first == (True, True, True)
    assert second == (False, False, False)
    assert found == (None, None, None)


async def _delete_all(
    connection: AsyncConnection, endpoint_id: EndpointId, subscription_id: SubscriptionId, source_id: SourceId
) -> tuple[bool, bool, bool]:
    return (
        await subscriptions.delete(connection, DEFAULT_TENANT, subscription_id),
        await endpoints.delete(connection, DEFAULT_TENANT, endpoint_id),
        await sources.delete(connection, DEFAULT_TENANT, source_id),
    )


async def test_tenants_do_not_see_one_another(database: Database) -> None:
    """Another tenant's endpoint is neither found nor listed nor deleted."""
    endpoint = await _add_endpoint(database)

    async with database.write() as connection:
        found = await endpoints.find(connection, OTHER_TENANT, endpoint.id)
        listed = await endpoints.list_page(connection, OTHER_TENANT, limit=10, after=None)
        is_deleted = await endpoints.delete(connection, OTHER_TENANT, endpoint.id)

    assert (found, list(listed), is_deleted) == (None, [], False)


async def test_pages_are_newest_first_and_keep_their_place(database: Database) -> None:
    """Nothing comes twice and nothing is left out, though a row comes in between two pages."""
    made = [await _add_endpoint(database, str(number)) for number in range(5)]

    async with database.read() as connection:
        first = await endpoints.list_page(connection, DEFAULT_TENANT, limit=2, after=None)
    place = Place(at=first[-1].created_at, id=first[-1].id)
    async with database.read() as connection:
        rest = await endpoints.list_page(connection, DEFAULT_TENANT, limit=10, after=place)

    assert [each.name for each in (*first, *rest)] == [each.name for each in reversed(made)]


async def test_a_load_amid_changes_holds_together(database: Database, store: SqlConfigurationStore) -> None:
    """While endpoints come and go with their subscriptions, no load shows a subscription without its endpoint."""

    async def churn() -> None:
        for _ in range(10):
            endpoint = await _add_endpoint(database)
            await _add_subscription(database, endpoint.id)
            async with database.write() as connection:
                await endpoints.delete(connection, DEFAULT_TENANT, endpoint.id)

    churning = [asyncio.create_task(churn()) for _ in range(2)]
    loads = []
    while not all(task.done() for task in churning):
        loads.append(await store.load())
    await asyncio.gather(*churning)

    orphans = [
        each for loaded in loads for each in loaded.subscriptions.values() if each.endpoint_id not in loaded.endpoints
    ]
    assert orphans == []


async def test_changes_wait_for_one_another(database: Database, store: SqlConfigurationStore) -> None:
    """Changes that each read before they write lose nothing of one another."""
    endpoint = await _add_endpoint(database)

    async def count_up() -> None:
        async with database.write() as connection:
            await lock_changes(connection)
            found = await endpoints.find(connection, DEFAULT_TENANT, endpoint.id)
            assert found is not None
            await endpoints.change(connection, replace(found, max_in_flight=found.max_in_flight + 1))

    await asyncio.gather(*(count_up() for _ in range(8)))

    assert (await store.load()).endpoints[endpoint.id].max_in_flight == endpoint.max_in_flight + 8


async def test_a_key_is_found_until_revoked_and_never_kept(database: Database) -> None:
    """It opens the tenant at once, no longer from its revocation on, and only its hash is in the table."""
    async with database.write() as connection:
        key_id, key = await keys.create(connection, name="ci")
    async with database.read() as connection:
        owner = await keys.find_tenant(connection, key)
        [row] = (await connection.execute(select(schema.api_key))).all()
    async with database.write() as connection:
        is_revoked = await keys.revoke(connection, key_id)
        is_revoked_again = await keys.revoke(connection, key_id)
        owner_later = await keys.find_tenant(connection, key)
        [listed] = await keys.list_all(connection)

    assert keys.looks_like_key(key)
    assert owner == DEFAULT_TENANT
    assert key not in repr(row)
    assert (is_revoked, is_revoked_again) == (True, False)
    assert owner_later is None
    assert (listed.id, listed.name) == (key_id, "ci")
    assert listed.revoked_at is not None


async def test_the_first_key_is_made_once(database: Database) -> None:
    """Of several that start at once on an empty database, one makes the key."""

    async def make() -> bool:
        async with database.write() as connection:
            return await keys.create_first(connection, name="operator") is not None

    made = await asyncio.gather(*(make() for _ in range(4)))

    assert sorted(made) == [False, False, False, True]
