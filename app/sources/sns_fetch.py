"""Fetching the certificate of a signature: one guarded GET. Whether the URL may be called was told before."""

import asyncio
import ssl
from typing import Final

import aiohttp

from app.domain.errors import Forged, SourceError
from app.outbound.guard import AddressRefused, Judge, guarded_socket, judge_metadata, private_judge
from app.outbound.resolver import GuardedResolver
from app.sources.sns_place import Place

FETCH_SECONDS: Final = 5.0
LARGEST: Final = 16 * 1024
# What speaks of the moment, not of the file.
_TRANSIENT: Final = frozenset({408, 425, 429})


class CertificateFetch:
    """Fetches from public addresses; from where the operator chose also private ones. Never a metadata service."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, seconds: float = FETCH_SECONDS) -> None:
        """Take another set of roots to trust a server by, and another limit, than the usual ones."""
        self._tls = tls
        self._seconds = seconds

    async def __call__(self, place: Place) -> bytes:
        """Give what is there. Raises Forged when nothing of use is, SourceError when that cannot be told for now."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._get(place)
        except TimeoutError:
            raise SourceError(f"{place.url} did not answer within {self._seconds:g} s.") from None
        except AddressRefused as error:
            raise SourceError(_refused(place, error)) from error
        except (aiohttp.ClientError, OSError) as error:
            refusal = error.__cause__
            if isinstance(refusal, AddressRefused):
                raise SourceError(_refused(place, refusal)) from error
            raise SourceError(f"{place.url} cannot be fetched: {str(error) or type(error).__name__}") from error

    async def _get(self, place: Place) -> bytes:
        async with (
            self._session(judge_metadata if place.is_chosen else private_judge(())) as session,
            session.get(place.url, allow_redirects=False) as response,
        ):
            if response.status == 200:  # noqa: PLR2004 -- a status says more than a name for it
                return await _read(place, response)
            # A redirect is no word of SNS about the file: it is not followed, and nothing is concluded from it.
            if 400 <= response.status < 500 and response.status not in _TRANSIENT:  # noqa: PLR2004 -- likewise
                raise Forged(f"SigningCertURL leads to no certificate: it answers {response.status}.")
            raise SourceError(f"{place.url} answers {response.status}.")

    def _session(self, judge: Judge) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=GuardedResolver(judge),
                socket_factory=guarded_socket(judge),
                use_dns_cache=False,
                force_close=True,
                ssl=self._tls or True,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            read_bufsize=LARGEST,
        )


async def _read(place: Place, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            raise Forged(f"What {place.url} leads to is larger than a certificate.")
    return bytes(body)


def _refused(place: Place, error: AddressRefused) -> str:
    reason = str(error).partition("; an operator can open")[0].rstrip(".")
    return f"{place.url} cannot be fetched: {reason}. An endpoint_url in the source's config may lead there."
