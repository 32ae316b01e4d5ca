"""Which addresses may be connected to, and which URLs may be registered: the guard against requests forged through us.

A URL's spelling is judged once, at registration. A name is judged by what it means at the moment of connecting:
guarded_socket() sees every address a connection is tried to, literals too. Looking names up is in resolver.py.
"""

import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from yarl import URL

from app.domain.metadata import is_metadata_address, is_metadata_name

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Judge = Callable[[str], str | None]
"""Tell why an address is refused, in one sentence, or None if it may be connected to."""
AddrInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""What getaddrinfo gives and aiohttp's socket_factory takes."""

LONGEST_URL: Final = 2048
LONGEST_HOST: Final = 253
LONGEST_LABEL: Final = 63
LOWEST_FREE_PORT: Final = 1024
WELL_KNOWN_PORTS: Final = frozenset({80, 443})


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(each) for each in text.split())


# IANA's special-purpose registries. Not `is_global`: it lets NAT64, 6to4 and more forms of private addresses by.
_DENIED_V4: Final = _networks("""
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
""")
# Of IPv6 only what is handed out to the public internet is let by, and of that not the blocks with a special meaning.
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_DENIED_V6: Final = _networks("2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20")

_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)


class AddressRefused(OSError):  # noqa: N818 -- names what happened, reads well in except
    """The guard refused an address; the text says why."""


def private_judge(allow: Sequence[Network]) -> Judge:
    """Give the rule for webhooks: only public addresses and the networks the installation opened, never metadata."""

    def judge(text: str) -> str | None:
        refusal = judge_metadata(text)
        if refusal is not None:
            return refusal
        address = ipaddress.ip_address(text)
        if _is_public(address) or any(address in network for network in allow):
            return None
        return f"{text} is a private address; an operator can open its network with BUCKETPOST_DELIVERY__ALLOW_CIDRS."

    return judge


def judge_metadata(text: str) -> str | None:
    """Apply the rule for brokers, which an operator chooses: anything but a cloud's metadata service."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"{text!r} is not an address."
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return f"{text} names a network interface of this machine."
    if is_metadata_address(address):
        return f"{text} is the address of a cloud's metadata service."
    return None


@functools.lru_cache(maxsize=1024)
def parse_url(url: str) -> URL:
    """Read a webhook's URL by its spelling alone. Raises ValueError with a sentence for people."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"A URL has at most {LONGEST_URL} characters.")
    if "\\" in url or " " in url or not url.isprintable():
        raise ValueError("A URL has no spaces, control characters or backslashes.")
    authority = _AUTHORITY.match(url)
    if authority is None:
        raise ValueError("A URL begins with http:// or https://.")
    if "@" in authority[1]:
        raise ValueError("A URL has no user name and no password; put credentials into a header.")
    if "%" in authority[1]:
        raise ValueError("The host of a URL has no percent sign.")
    try:
        parsed = URL(url)
    except ValueError as error:
        raise ValueError(f"The URL cannot be read: {error}.") from error
    host = parsed.raw_host or ""
    if "[" in authority[1] and ":" not in host:
        raise ValueError("What stands in brackets in a URL is an IPv6 address.")
    _check_spelling(host)
    if parsed.port not in WELL_KNOWN_PORTS and (parsed.port or 0) < LOWEST_FREE_PORT:
        raise ValueError(f"The port of a URL is 80, 443 or at least {LOWEST_FREE_PORT}.")
    return parsed


def check_url(url: str, allow: Sequence[Network]) -> None:
    """Judge a webhook's URL before it is kept. Raises ValueError with a sentence for people; looks nothing up."""
    check_host(parse_url(url).raw_host or "", private_judge(allow))


def check_host(host: str, judge: Judge) -> None:
    """Judge a host as written: by its spelling, an address by the rule too. Raises ValueError with a sentence."""
    _check_spelling(host)
    if is_metadata_name(host):
        raise ValueError(f"{host} is the name of a cloud's metadata service.")
    refusal = judge(host) if _is_address(host) else None
    if refusal is not None:
        raise ValueError(refusal)


def guarded_socket(judge: Judge) -> Callable[[AddrInfo], socket.socket]:
    """Give the socket_factory under which no socket exists for a refused address. It raises AddressRefused."""

    def make(info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = judge(str(address[0]))
        if refusal is not None:
            raise AddressRefused(refusal)
        return socket.socket(family, kind, protocol)

    return make


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _DENIED_V6)


def _check_spelling(host: str) -> None:
    if _is_address(host):
        return
    name = host.removesuffix(".")
    labels = name.split(".")
    if (
        len(name) > LONGEST_HOST
        or not _HOST.fullmatch(name)
        or not all(0 < len(each) <= LONGEST_LABEL for each in labels)
    ):
        raise ValueError(f"{host!r} is not the name of a host.")
    # As browsers do (WHATWG URL, "ends in a number"): getaddrinfo would read 127.1, 2130706433 and 0x7f.1 as addresses.
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError(f"{host} is not an address in its usual form.")


def _is_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return isinstance(address, IPv6Address) or str(address) == host
