"""What is pushed: whose it is, what is held, when it is answered. Over HTTP: tests/integration/test_push.py."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.domain.errors import Forged, SourceError, StoreUnavailable, Unauthorized
from app.ingest.room import SOURCE_BYTES
from tests.unit.ingest.parts import configuration, reached, source
from tests.unit.ingest.pushing import TOKEN, Scene, pushing


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Take pushes."""
    async with Scene() as made:
        yield made


async def test_a_push_is_answered_after_its_commit(scene: Scene) -> None:
    """While the transaction hangs there is no answer, and the body was read once."""
    scene.store.may_commit.clear()
    pushed = asyncio.create_task(scene.push("a b"))
    await scene.store.asked.wait()
    was_answered = pushed.done()

    scene.store.may_commit.set()
    verdict = await pushed

    assert (was_answered, verdict) == (False, "recorded")
    assert scene.store.committed == ["a", "b"]


async def test_pushes_at_once_share_transactions(scene: Scene) -> None:
    """What arrives while one transaction runs makes up the next."""
    scene.store.may_commit.clear()
    first = asyncio.create_task(scene.push("first"))
    await scene.store.asked.wait()
    others = [asyncio.create_task(scene.push(f"e{number}")) for number in range(50)]
    await reached(lambda: len(scene.recorder._waiting) == 50)

    scene.store.may_commit.set()
    verdicts = await asyncio.gather(first, *others)

    assert set(verdicts) == {"recorded"}
    assert [len(batch) for batch in scene.store.batches] == [1, 50]


@pytest.mark.parametrize("tokens", [(), ("wrong",), ("",), (TOKEN[:-1],), (TOKEN + "x",), ("\udc80",)])
async def test_without_the_token_no_body_is_read(scene: Scene, tokens: tuple[str, ...]) -> None:
    """On the road of stores; nothing is opened either."""
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"a"

    assert await scene.push(tokens=tokens, chunks=chunks()) == "unauthorized"

    assert (read, scene.opened) == (0, [])


async def test_one_right_token_among_several_is_enough(scene: Scene) -> None:
    """A store may send one in the path, and a proxy another in a header."""
    assert await scene.push(tokens=("wrong", TOKEN)) == "recorded"


async def test_a_source_without_a_token_takes_none(scene: Scene) -> None:
    """Not even the empty one."""
    scene.known = configuration(replace(pushing(), token_hash=None))

    assert await scene.push(tokens=("",)) == "unauthorized"


@pytest.mark.parametrize(("tokens", "seen"), [((), "absent"), (("wrong",), "wrong"), ((TOKEN,), "right")])
async def test_a_source_that_signs_is_told_of_the_token(scene: Scene, tokens: tuple[str, ...], seen: str) -> None:
    """On the road of SNS it is for the source to say what it needs."""
    scene.known = configuration(pushing(kind="sns"))

    assert await scene.push(road="sns", tokens=tokens) == "recorded"

    assert [each.token for each in scene.opened[0].seen] == [seen]


@pytest.mark.parametrize("known", [source(1), pushing(kind="sns"), pushing(2)])
async def test_what_is_not_a_source_of_the_road_is_unknown(scene: Scene, known: object) -> None:
    """A polled one, one of the other road, another one."""
    scene.known = configuration(known)  # type: ignore[arg-type]  # all three are sources

    assert await scene.push() == "unknown"


async def test_a_source_made_just_now_is_looked_for_once_more(scene: Scene) -> None:
    """By one reading, and one more for all who came while that was under way."""
    scene.known, scene.truth = configuration(), configuration(pushing())
    scene.may_refresh.clear()
    pushed = [asyncio.create_task(scene.push(f"e{number}")) for number in range(10)]
    await reached(lambda: scene.refreshes)

    scene.may_refresh.set()

    assert set(await asyncio.gather(*pushed)) == {"recorded"}
    assert scene.refreshes == 2


async def test_a_reading_that_began_before_the_push_is_not_trusted(scene: Scene) -> None:
    """The source may have been committed after it: who came in between waits for the next reading."""
    scene.known, scene.truth = configuration(), configuration()
    scene.may_refresh.clear()
    early = asyncio.create_task(scene.push())
    await reached(lambda: scene.refreshes)
    scene.truth = configuration(pushing())
    late = asyncio.create_task(scene.push())
    await asyncio.sleep(0)

    scene.may_refresh.set()

    assert (await early, await late) == ("unknown", "recorded")
    assert scene.refreshes == 2


async def test_a_token_made_anew_counts_at_once(scene: Scene) -> None:
    """The snapshot is read anew before a token is called wrong."""
    old = replace(pushing(), token_hash=bytes(32))
    scene.known, scene.truth = configuration(old), configuration(pushing())

    assert await scene.push() == "recorded"


async def test_an_unknown_source_while_the_database_is_away_is_not_unknown(scene: Scene) -> None:
    """It cannot be told, so the sender has to try again."""
    scene.known = configuration()
    scene.is_database_away = True

    with pytest.raises(StoreUnavailable):
        await scene.push()


async def test_a_paused_source_takes_nothing(scene: Scene) -> None:
    """And is closed."""
    await scene.push()
    scene.known = configuration(replace(pushing(), is_paused=True))

    assert await scene.push() == "paused"

    await reached(lambda: scene.opened[0].closed)
    assert await scene.push(tokens=()) == "unauthorized"


async def test_a_source_is_opened_once(scene: Scene) -> None:
    """A new name, state or token does not open it anew; a new config does, and closes the old one after its pushes."""
    await scene.push()
    scene.known = configuration(replace(pushing(), name="renamed", state="failing"))
    await scene.push()
    [first] = scene.opened
    first.may_answer.clear()
    under_way = asyncio.create_task(scene.push("slow"))
    await reached(lambda: len(first.seen) == 3)

    scene.known = configuration(pushing(wait_seconds=3))
    await scene.push()
    closed_meanwhile = first.closed
    first.may_answer.set()

    assert await under_way == "recorded"
    await reached(lambda: first.closed)
    assert closed_meanwhile == 0
    assert len(scene.opened) == 2


async def test_a_deleted_source_is_closed(scene: Scene) -> None:
    """Without another push."""
    await scene.push()

    scene.known = configuration()

    await reached(lambda: scene.opened[0].closed)


async def test_a_source_that_took_a_push_is_ok(scene: Scene) -> None:
    """Noted once."""
    await scene.push()
    await scene.store.noted.wait()
    await scene.push()

    assert scene.store.states == [(pushing().id, "ok", None)]


async def test_own_trouble_is_the_sources_state(scene: Scene) -> None:
    """A source that cannot vouch is failing until it can; a bug in it is no one else's."""
    scene.known = configuration(pushing(), pushing(2))
    await scene.push()
    await reached(lambda: scene.store.states)
    scene.opened[0].answer = SourceError("the certificate cannot be fetched")
    assert await scene.push() == "troubled"
    await reached(lambda: len(scene.store.states) == 2)
    scene.opened[0].answer = KeyError("x")
    assert await scene.push() == "troubled"
    await reached(lambda: len(scene.store.states) == 3)

    assert await scene.push(to=pushing(2).id) == "recorded"
    scene.opened[0].answer = "take"
    assert await scene.push() == "recorded"

    await reached(lambda: len(scene.store.states) == 5)
    assert [(state, error) for of, state, error in scene.store.states if of == pushing().id] == [
        ("ok", None),
        ("failing", "the certificate cannot be fetched"),
        ("failing", "KeyError: 'x'"),
        ("ok", None),
    ]


@pytest.mark.parametrize(("refusal", "verdict"), [(Forged(), "forged"), (Unauthorized(), "unauthorized")])
async def test_a_refused_push_says_nothing_of_the_source(scene: Scene, refusal: Exception, verdict: str) -> None:
    """Anybody can send a forgery."""
    await scene.push()
    await reached(lambda: scene.store.states)
    scene.opened[0].answer = refusal

    assert await scene.push() == verdict

    assert [state for _, state, _ in scene.store.states] == ["ok"]
    assert scene.store.committed == ["a"]


async def test_what_says_nothing_to_record_is_taken(scene: Scene) -> None:
    """A confirmation, say."""
    await scene.push()
    scene.opened[0].answer = None

    assert await scene.push("b") == "recorded"

    assert scene.store.committed == ["a"]


async def test_what_the_database_takes_in_no_form_is_not_acknowledged(scene: Scene) -> None:
    """Its neighbours are."""
    bad, good = await asyncio.gather(scene.push("?!!"), scene.push("good"))

    assert (bad, good) == ("troubled", "recorded")


async def test_what_the_database_refuses_is_quarantined_and_acknowledged(scene: Scene) -> None:
    """A store that tries again for ever would stand still behind it."""
    assert await scene.push("a! b") == "recorded"

    assert scene.store.committed == ["b"]
    assert [each.raw for each in scene.store.quarantine] == [b"a!"]


async def test_without_room_nothing_is_read() -> None:
    """The room is shared with all that is held in the process, and is free again after the commit."""
    async with Scene(max_messages=1) as scene:
        scene.store.may_commit.clear()
        held = asyncio.create_task(scene.push("held"))
        await scene.store.asked.wait()

        assert await scene.push("next") == "busy"
        assert len(scene.opened[0].seen) == 1

        scene.store.may_commit.set()
        assert await held == "recorded"
        assert await scene.push("next") == "recorded"


async def test_a_body_takes_its_room_before_it_is_read(scene: Scene) -> None:
    """What is announced counts at once, what is not while it comes; a flood to one source leaves room for others."""
    scene.known = configuration(pushing(), pushing(2))
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()

    announced = asyncio.create_task(scene.push(chunks=slow(), announced_bytes=SOURCE_BYTES))
    await reached(lambda: scene.pushes._opened and not scene.pushes._opened[pushing().id].room.is_free)

    assert await scene.push() == "busy"
    assert await scene.push(to=pushing(2).id) == "recorded"

    more.set()
    assert await announced == "recorded"
    assert scene.pushes._opened[pushing().id].room.is_empty


async def test_a_body_without_an_announced_length_is_bounded(scene: Scene) -> None:
    """It is turned down in the middle when its source's room is full."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    assert await scene.push(chunks=endless(), announced_bytes=0) == "busy"
    assert await scene.push() == "recorded"


async def test_an_aborted_upload_leaves_nothing_behind(scene: Scene) -> None:
    """What reading raises comes through, and the room is free."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await scene.push(chunks=broken())

    assert scene.pushes._opened[pushing().id].room.is_empty
    assert scene.store.batches == []


async def test_a_database_that_stays_away_is_answered_in_time() -> None:
    """The sender is to try again; what is held is recorded when the database is back, and takes room until then."""
    async with Scene(max_messages=1, answer_seconds=0.05) as scene:
        scene.store.may_commit.clear()

        assert await scene.push("a") == "late"
        assert await scene.push("b") == "busy"

        scene.store.may_commit.set()
        await reached(lambda: scene.store.committed == ["a"])
        await reached(lambda: scene.room.is_free)


async def test_a_sender_that_never_ends_its_body_is_given_up() -> None:
    """Within the time there is for an answer."""
    async with Scene(answer_seconds=0.05) as scene:

        async def silent() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.Event().wait()

        assert await scene.push(chunks=silent()) == "late"
        assert scene.pushes._opened[pushing().id].room.is_empty


async def test_a_stop_sees_through_what_is_under_way(scene: Scene) -> None:
    """New pushes are turned down at once; those under way are recorded, then the sources are closed."""
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"slow"
        await more.wait()

    scene.store.may_commit.clear()
    committing = asyncio.create_task(scene.push("a"))
    reading = asyncio.create_task(scene.push(chunks=slow()))
    await scene.store.asked.wait()

    scene.stop.set()
    await reached(lambda: not scene.pushes.is_open)
    turned_down = await scene.push("late")
    has_ended = scene.running.done()
    more.set()
    scene.store.may_commit.set()
    await scene.running

    assert (turned_down, has_ended) == ("closed", False)
    assert (await committing, await reading) == ("recorded", "recorded")
    assert sorted(scene.store.committed) == ["a", "slow"]
    assert scene.opened[0].closed == 1


async def test_a_stop_cut_off_acknowledges_nothing(scene: Scene) -> None:
    """What was not committed when the time was over is not called recorded."""
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"slow"
        await more.wait()

    scene.store.may_commit.clear()
    committing = asyncio.create_task(scene.push("a"))
    reading = asyncio.create_task(scene.push(chunks=slow()))
    await scene.store.asked.wait()

    scene.running.cancel()
    await asyncio.gather(scene.running, return_exceptions=True)
    more.set()

    assert (await committing, await reading) == ("closed", "closed")
    assert scene.store.committed == []


async def test_before_it_runs_nothing_is_taken() -> None:
    """The sender is to try again."""
    assert await Scene().push() == "closed"
