"""URLs an operator chose (queues, endpoints of AWS and what speaks like it): any address but a metadata service's."""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from app.domain.metadata import is_metadata_address, is_metadata_name


def checked_url(text: str) -> str:
    """Judge a URL by its spelling and give it back. Raises ValueError with a predicate for people."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be a URL with http:// or https:// and a host")
    if parts.username is not None or any(character.isspace() or character < " " for character in text):
        raise ValueError("must hold neither credentials nor white space")
    if _leads_to_metadata(host):
        raise ValueError("names a metadata address, which may never be called")
    return text


def _leads_to_metadata(host: str) -> bool:
    """Tell whether a host is one where clouds hand out credentials, in whatever spelling of the address."""
    host = host.rstrip(".").lower()
    try:
        # inet_aton reads every spelling that a socket would: 0xa9fea9fe, 2852039166, 169.254.43518.
        return is_metadata_address(ip_address(host) if ":" in host else ip_address(socket.inet_aton(host)))
    except (OSError, ValueError):
        return is_metadata_name(host)
