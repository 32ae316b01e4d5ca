"""Asking name servers that an operator chose, not the system. What becomes of their answers is in resolver.py."""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.outbound.resolver import Answer, Ask

PORT: Final = 53
_HIGHEST_PORT: Final = 65_535
_BRACKETED: Final = re.compile(r"\[([^]]*)](?::(.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameserver:
    """Where one listens, by UDP and TCP."""

    address: IPv4Address | IPv6Address
    port: int = PORT

    def __str__(self) -> str:
        """Give it as an operator writes it."""
        host = f"[{self.address}]" if isinstance(self.address, IPv6Address) else str(self.address)
        return str(self.address) if self.port == PORT else f"{host}:{self.port}"


def parse_nameserver(text: str) -> Nameserver:
    """Read `10.0.0.2`, `10.0.0.2:5353`, `fd00::2` or `[fd00::2]:5353`. Raises ValueError with a sentence for people."""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2]
    else:
        host, _, port = text.partition(":") if text.count(":") == 1 else (text, "", None)
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not the address of a server: 10.0.0.2, 10.0.0.2:5353, [fd00::2]:5353") from None
    if port is None:
        return Nameserver(address=address)
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        raise ValueError(f"{port!r} is not a port")
    return Nameserver(address=address, port=int(port))


def ask_nameservers(servers: Sequence[Nameserver], *, within_seconds: float) -> "Ask":
    """Give what asks these, one after the other until one answers; names are taken as complete."""
    # Not on top: most gateways ask the system, and would load it for nothing.
    import dns.exception  # noqa: PLC0415
    import dns.nameserver  # noqa: PLC0415
    import dns.resolver  # noqa: PLC0415

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(str(each.address), each.port) for each in servers]

    def ask(host: str, port: int, family: int) -> "Answer":
        try:
            found = resolver.resolve_name(host, family, lifetime=within_seconds, search=False)
        except (dns.exception.DNSException, UnicodeError) as error:
            return OSError(str(error) or type(error).__name__)
        return [
            (socket.AddressFamily(its), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address, its in found.addresses_and_families()
        ]

    return ask
