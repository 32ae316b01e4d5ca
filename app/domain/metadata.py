"""Where clouds hand out credentials and settings to machines: never a webhook, a broker or a queue."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Final

# AWS (ECS, EKS, time, names), Azure, Google, Alibaba, Oracle.
_NETWORKS: Final = tuple(
    ip_network(each)
    for each in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.169.123",
        "169.254.169.253",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::/32",
        "fd20:ce::254",
    )
)
_NAMES: Final = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})
# Blocks of IPv6 that hold an IPv4 address in their last 32 bits: compatible, mapped, translated, NAT64 twice.
_HOLDING_V4: Final = tuple(
    IPv6Network(each) for each in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")


def is_metadata_address(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address, or the IPv4 one that an IPv6 one stands for, is a metadata service's."""
    return any(each in network for network in _NETWORKS for each in (address, _held_v4(address)) if each is not None)


def is_metadata_name(host: str) -> bool:
    """Tell whether a name is that of a metadata service."""
    return host.rstrip(".").lower() in _NAMES


def _held_v4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _SIX_TO_FOUR:
        return IPv4Address(address.packed[2:6])
    if any(address in network for network in _HOLDING_V4):
        return IPv4Address(address.packed[-4:])
    return None
