"""Asking chosen name servers: what an operator may write, and what comes of answers, of none, and of silence."""

import asyncio
import socket

import pytest

from app.outbound.nameservers import ask_nameservers, parse_nameserver
from tests.bed.names import NameServer
from tests.bed.ports import HOST


@pytest.mark.parametrize("text", ["10.0.0.2", "10.0.0.2:5353", "fd00::2", "[fd00::2]:5353"])
def test_a_server_reads_as_it_is_written(text: str) -> None:
    """With or without a port."""
    assert str(parse_nameserver(text)) == text


@pytest.mark.parametrize("text", ["", "dns.example", "10.0.0.2:", "10.0.0.2:0", "10.0.0.2:65536", "10.0.0.2:x", "[::1"])
def test_what_is_no_server_is_refused(text: str) -> None:
    """A name is not, either: nobody is there to look it up."""
    with pytest.raises(ValueError, match=r"is not (the address|a port)"):
        parse_nameserver(text)


async def test_a_name_has_the_addresses_its_server_tells() -> None:
    """As getaddrinfo gives them."""
    async with NameServer() as server:
        ask = ask_nameservers([parse_nameserver(server.address)], within_seconds=10)

        found = await asyncio.to_thread(ask, "one.well.test", 8443, socket.AF_UNSPEC)

    assert found == [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (HOST, 8443))]


async def test_a_name_that_is_not_there_is_an_error() -> None:
    """At once."""
    async with NameServer() as server:
        ask = ask_nameservers([parse_nameserver(server.address)], within_seconds=60)

        found = await asyncio.to_thread(ask, "one.nowhere.test", 443, socket.AF_UNSPEC)

    assert isinstance(found, OSError)
    assert server.asked["one.nowhere.test."] == 1


async def test_a_server_that_says_nothing_is_an_error_in_time() -> None:
    """The thread that asks it ends."""
    async with NameServer() as server:
        ask = ask_nameservers([parse_nameserver(server.address)], within_seconds=0.2)

        found = await asyncio.to_thread(ask, "one.dead.test", 443, socket.AF_UNSPEC)

    assert isinstance(found, OSError)
    assert server.asked["one.dead.test."] > 0


async def test_one_that_is_away_is_passed_over() -> None:
    """For the next."""
    async with NameServer() as gone:
        pass
    async with NameServer() as server:
        ask = ask_nameservers([parse_nameserver(gone.address), parse_nameserver(server.address)], within_seconds=10)

        found = await asyncio.to_thread(ask, "one.well.test", 443, socket.AF_INET)

    assert isinstance(found, list)
