"""A name server for the tests: tells one address for the names it knows, and says nothing at all to the others."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.bed.ports import HOST

# All below these is there, is not there, or has a server that is dead.
KNOWN, UNKNOWN = ".well.test.", ".nowhere.test."
TTL = 30


class NameServer(asyncio.DatagramProtocol):
    """Listens on a UDP port of this machine; `asked` counts the questions by name."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.address = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, 0))
        self.address = f"{HOST}:{self._transport.get_extra_info('sockname')[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Answer a question, or leave it."""
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text()
        self.asked[name] += 1
        answer = dns.message.make_response(question)
        if name.endswith(UNKNOWN):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif not name.endswith(KNOWN):
            return
        elif question.question[0].rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(name, TTL, "IN", "A", HOST))
        self._transport.sendto(answer.to_wire(), cast("tuple[str, int]", addr))
