"""Which TCP port a server of the tests takes.

Ports come from below the range the system hands out by itself: no client's socket gets one between its
choice and its use, nor while the server that owns it is stopped for a while.
"""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 15_000
SYSTEM_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on; no two calls of one run give the same."""
    candidates = [port for port in range(LOWEST, _end_of_ours()) if port not in _given]
    random.shuffle(candidates)
    for port in candidates:
        if _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError("no free port is left for the tests")


_given: set[int] = set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _end_of_ours() -> int:
    try:
        lowest_of_the_system = int(SYSTEM_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest_of_the_system = 32_768
    return lowest_of_the_system if lowest_of_the_system > LOWEST + 1_000 else 65_536
