"""Certificates are fetched once for all who ask, kept for a day at most, and never in unbounded number."""

import asyncio
from datetime import timedelta

import pytest

from app.domain.errors import Forged, SourceError
from app.sources.sns_certificates import MOST_KEPT, MOST_REFUSED, MOST_UNDER_WAY, Certificates
from app.sources.sns_place import Place
from app.sources.sns_x509 import system_roots
from tests.bed.sns_authority import CERTIFICATE_URL, Form, pem, rsa_key
from tests.unit.sources.sns_world import AUTHORITY, MESSAGE, NOW, Outside, pushed, world


class Held:
    """A fetch that waits until it is let go."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, place: Place) -> bytes:
        """Wait, then give a good certificate."""
        self.fetched.append(place.url)
        self.begun.set()
        await self.go.wait()
        return AUTHORITY.signer().pem


def place(number: int = 0) -> Place:
    """Give one of many places."""
    return Place(url=f"https://sns.test/{number}.pem", subjects=frozenset({"sns.amazonaws.com"}), is_chosen=False)


def held() -> tuple[Held, Certificates]:
    """Give certificates that come only when they are let."""
    fetch = Held()
    return fetch, Certificates(fetch=fetch, roots=lambda: (AUTHORITY.root,), now=lambda: NOW)


async def test_a_hundred_messages_at_once_fetch_once() -> None:
    """And all of them are taken."""
    outside, signer = world()
    source = outside.source()

    messages = await asyncio.gather(*(source.accept(pushed(signer.notification(MESSAGE))) for _ in range(100)))

    assert all(message is not None for message in messages)
    assert outside.fetched == [CERTIFICATE_URL]


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    """The fetch goes on when the first who asked is cancelled."""
    fetch, certificates = held()
    first = asyncio.create_task(certificates.key(place()))
    await fetch.begun.wait()
    second = asyncio.create_task(certificates.key(place()))
    first.cancel()
    await asyncio.wait([first])

    fetch.go.set()

    assert (await second).key_size == 2048
    assert first.cancelled()
    assert len(fetch.fetched) == 1


async def test_a_certificate_is_kept_for_a_day() -> None:
    """Then it is fetched anew."""
    outside, signer = world()
    source = outside.source()

    for hours in (0, 23.9, 0.2):
        outside.pass_time(hours=hours)
        fresh = AUTHORITY.signer().notification(MESSAGE, Timestamp=f"{outside.now:%Y-%m-%dT%H:%M:%S}.000Z")
        assert await source.accept(pushed(fresh)) is not None

    assert len(outside.fetched) == 2
    assert signer.pem == outside.files[CERTIFICATE_URL]


async def test_a_certificate_is_not_kept_beyond_its_own_end() -> None:
    """What is fetched then is looked at again."""
    outside, _ = world(pem(AUTHORITY.certify(rsa_key("SNS").public_key(), form=Form(ends=timedelta(hours=1)))))
    certificates = outside.certificates()
    at = Place(url=CERTIFICATE_URL, subjects=frozenset({"sns.amazonaws.com"}), is_chosen=False)
    await certificates.key(at)

    outside.pass_time(hours=1, seconds=1)

    with pytest.raises(Forged, match="not valid at this time"):
        await certificates.key(at)
    assert len(outside.fetched) == 2


@pytest.mark.parametrize(
    ("file", "error", "seconds"),
    [(Forged("404"), Forged, 300), (b"no certificate", Forged, 300), (SourceError("500"), SourceError, 5)],
)
async def test_a_failure_is_remembered_for_a_while(
    file: bytes | Exception, error: type[Exception], seconds: float
) -> None:
    """Nobody can have us ask for one file again and again; our own trouble is over sooner."""
    outside = Outside(files={place().url: file})
    certificates = outside.certificates()

    for span in (0.0, seconds - 1, 1.5):
        outside.pass_time(seconds=span)
        with pytest.raises(error):
            await certificates.key(place())

    assert len(outside.fetched) == 2


async def test_what_is_remembered_is_bounded() -> None:
    """Good ones and bad ones apart, so that a flood of bad ones does not push out the good one."""
    outside = Outside(files={place(number).url: Forged("404") for number in range(1, MOST_REFUSED + 50)})
    outside.files[place().url] = AUTHORITY.signer().pem
    certificates = outside.certificates()
    await certificates.key(place())

    for number in range(1, MOST_REFUSED + 50):
        with pytest.raises(Forged):
            await certificates.key(place(number))
    await certificates.key(place())

    assert outside.fetched.count(place().url) == 1
    assert len(certificates._failed) == MOST_REFUSED


async def test_good_certificates_are_bounded_too() -> None:
    """The oldest is fetched again."""
    outside = Outside(files={place(number).url: AUTHORITY.signer().pem for number in range(MOST_KEPT + 1)})
    certificates = outside.certificates()

    for number in (*range(MOST_KEPT + 1), 0):
        await certificates.key(place(number))

    assert len(outside.fetched) == MOST_KEPT + 2
    assert len(certificates._kept) == MOST_KEPT


async def test_only_so_many_are_fetched_at_a_time() -> None:
    """The next is asked to try again, not refused."""
    fetch, certificates = held()
    asking = [asyncio.create_task(certificates.key(place(number))) for number in range(MOST_UNDER_WAY)]
    await fetch.begun.wait()

    with pytest.raises(SourceError, match="other certificates"):
        await certificates.key(place(99))
    fetch.go.set()
    await asyncio.gather(*asking)

    assert (await certificates.key(place(99))).key_size == 2048


async def test_a_closed_source_leaves_nobody_waiting() -> None:
    """Who waits for a certificate is asked to try again."""
    fetch, certificates = held()
    asking = asyncio.create_task(certificates.key(place()))
    await fetch.begun.wait()

    await certificates.aclose()

    with pytest.raises(SourceError, match="closed"):
        await asking


def test_this_machine_has_roots() -> None:
    """They are read without complaint."""
    assert len(system_roots()) > 0
