"""Names are judged by all that they mean, at each connection, without waiting for dead name servers for ever."""

import asyncio
import socket
import threading

import pytest

from app.outbound.guard import AddressRefused, AddrInfo, private_judge
from app.outbound.resolver import FAILED_SECONDS, KNOWN_CROWD, LARGEST_CROWD, GuardedResolver

PUBLIC, LOOPBACK = "93.184.216.34", "127.0.0.1"


class Names:
    """A name server: each name has answers in turn, the last for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, family: int) -> list[AddrInfo] | OSError:
        """Answer as getaddrinfo does."""
        self.asked.append(host)
        turns = self.answers[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [(family or socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses] or OSError(
            "none"
        )


def make_resolver(names: Names) -> GuardedResolver:
    """Give a resolver that asks these names."""
    return GuardedResolver(private_judge(()), ask=names)


async def test_a_public_name_resolves() -> None:
    """To all of its addresses, with the port asked for."""
    found = await make_resolver(Names(pub=[[PUBLIC, "8.8.8.8"]])).resolve("pub", 443)

    assert [(each["host"], each["port"]) for each in found] == [(PUBLIC, 443), ("8.8.8.8", 443)]


@pytest.mark.parametrize(
    "addresses", [[LOOPBACK], [PUBLIC, LOOPBACK], [LOOPBACK, PUBLIC], ["::1"], [f"10.0.0.{n}" for n in range(1, 101)]]
)
async def test_one_private_answer_refuses_the_name(addresses: list[str]) -> None:
    """Whatever else it means."""
    with pytest.raises(AddressRefused, match="private address"):
        await make_resolver(Names(bad=[addresses])).resolve("bad")


async def test_a_name_is_judged_anew_each_time() -> None:
    """One that changes its mind after it was registered is refused."""
    resolver = make_resolver(Names(flip=[[PUBLIC], [LOOPBACK]]))

    await resolver.resolve("flip")

    with pytest.raises(AddressRefused):
        await resolver.resolve("flip")


async def test_a_name_without_addresses_is_an_error_with_its_name() -> None:
    """And not a refusal."""
    with pytest.raises(OSError, match="nobody could not be looked up") as caught:
        await make_resolver(Names(nobody=[[]])).resolve("nobody")

    assert not isinstance(caught.value, AddressRefused)


async def test_a_label_that_no_name_can_have_is_an_error() -> None:
    """The system's resolver raises another kind of error for it."""
    with pytest.raises(OSError, match="not the name of a host"):
        await GuardedResolver(private_judge(())).resolve("a" * 64 + ".test")


async def test_a_dead_name_server_costs_its_own_askers_only() -> None:
    """All who ask for one name share one thread; the others have theirs, and nobody waits longer than the limit."""
    release = threading.Event()
    asked: list[str] = []

    def ask(host: str, port: int, _: int) -> list[AddrInfo] | OSError:
        asked.append(host)
        if host == "dead":
            release.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, port))]

    resolver = GuardedResolver(private_judge(()), ask=ask, lookup_seconds=0.05)
    waiting = [asyncio.create_task(resolver.resolve("dead")) for _ in range(50)]

    await resolver.resolve("alive")
    results = await asyncio.gather(*waiting, return_exceptions=True)
    release.set()

    assert sorted(asked) == ["alive", "dead"]
    assert {str(result) for result in results} == {"dead could not be looked up within 0.05 s."}


class Servers:
    """Name servers: dead names have no answer until they are released, broken ones have an error at once."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, _: int) -> list[AddrInfo] | OSError:
        """Answer as getaddrinfo does."""
        self.asked.append(host)
        if host.startswith("dead"):
            self.release.wait(30)
        if host.startswith("broken"):
            return OSError("there is no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, port))]

    def resolver(self, *, lookup_seconds: float = 0.05) -> GuardedResolver:
        """Give a resolver that asks them."""
        return GuardedResolver(private_judge(()), ask=self, lookup_seconds=lookup_seconds)


async def test_who_joins_a_lookup_late_has_what_is_left_of_its_time() -> None:
    """One that has had its time already costs the next attempts nothing: they fail at once, on the same thread."""
    servers = Servers()
    resolver = servers.resolver()
    with pytest.raises(OSError, match="within"):
        await resolver.resolve("dead")
    loop = asyncio.get_running_loop()
    before = loop.time()

    for _ in range(100):
        with pytest.raises(OSError, match="within"):
            await resolver.resolve("dead")

    waited = loop.time() - before
    servers.release.set()
    assert servers.asked == ["dead"]
    assert waited < 100 * 0.05


async def test_a_name_without_an_answer_is_not_asked_for_again_at_once() -> None:
    """For a moment the failure holds for all who ask."""
    servers = Servers()
    resolver = servers.resolver(lookup_seconds=5)

    for _ in range(10):
        with pytest.raises(OSError, match="broken could not be looked up: there is no such name"):
            await resolver.resolve("broken")

    assert servers.asked == ["broken"]


async def test_a_failure_is_forgotten_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a delivery's first retry."""
    names = Names(late=[[], [PUBLIC]])
    resolver = make_resolver(names)
    with pytest.raises(OSError, match="could not be looked up"):
        await resolver.resolve("late")
    loop = asyncio.get_running_loop()
    later = loop.time() + FAILED_SECONDS

    monkeypatch.setattr(loop, "time", lambda: later)

    assert [each["host"] for each in await resolver.resolve("late")] == [PUBLIC]


async def test_dead_names_leave_threads_to_names_that_answer() -> None:
    """However many there are."""
    servers = Servers()
    resolver = servers.resolver()
    await resolver.resolve("alive")

    dead = [resolver.resolve(f"dead{number}") for number in range(2 * LARGEST_CROWD)]
    results = await asyncio.gather(*dead, return_exceptions=True)
    alive = await resolver.resolve("alive")
    with pytest.raises(OSError, match="192 other names wait"):
        await resolver.resolve("new")
    servers.release.set()

    assert [each["host"] for each in alive] == [PUBLIC]
    assert all(isinstance(each, OSError) for each in results)
    assert len(servers.asked) == 2 + LARGEST_CROWD - KNOWN_CROWD


@pytest.mark.parametrize("host", ["0x7f000001", "0x7f.1", "2130706433", "127.1", "0177.0.0.1", "localhost"])
async def test_what_the_system_reads_as_loopback_is_refused(host: str) -> None:
    """By what it means, should its spelling have passed."""
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1|::1"):
        await GuardedResolver(private_judge(())).resolve(host)
