"""Where the certificate of a signature may be fetched: told from the URL's text alone, before any request."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.domain.errors import Forged
from app.sources.sns_config import Topic

_AWS_FILE: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{32}\.pem")
_OTHER_FILE: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+\.pem")
_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A URL that may be called, and the subjects a certificate from there may have.

    `is_chosen`: it is at the endpoint that the operator named, so it is trusted for being there.
    """

    url: str
    subjects: frozenset[str]
    is_chosen: bool


def place_of(url: str, topic: Topic, endpoint_url: str | None) -> Place:
    """Give the place a SigningCertURL names. Raises Forged for any other than SNS's own and the operator's choice.

    The beginning of the text is compared, not the parts of a parsed URL: no parser can be led astray.
    """
    if len(url) <= _LONGEST:
        if endpoint_url is not None and _is_file(url, _origins(endpoint_url), _OTHER_FILE):
            return Place(url=url, subjects=frozenset(), is_chosen=True)
        host = f"sns.{topic.region}.{topic.suffix}"
        if _is_file(url, (f"https://{host}", f"https://{host}:443"), _AWS_FILE):
            return Place(url=url, subjects=_subjects(topic), is_chosen=False)
    raise Forged(f"The envelope's SigningCertURL is not one of SNS in {topic.region}.")


def _is_file(url: str, origins: tuple[str, ...], file: re.Pattern[str]) -> bool:
    return any(url.startswith(origin) and file.fullmatch(url, len(origin)) is not None for origin in origins)


def _origins(endpoint_url: str) -> tuple[str, ...]:
    """Give what URLs at an endpoint begin with, with its port and, where that is the usual one, without."""
    parts = urlsplit(endpoint_url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = _PORTS[parts.scheme]
    with_port = f"{parts.scheme}://{host}:{parts.port or usual}"
    return (with_port,) if (parts.port or usual) != usual else (with_port, f"{parts.scheme}://{host}")


def _subjects(topic: Topic) -> frozenset[str]:
    """Name the common names of SNS's certificates in a region.

    The first is the old regions', the second that of regions one opts in to, the others China's and GovCloud's
    (aws-sdk-java-v2, SnsHostProvider).
    """
    subjects = {"sns.amazonaws.com", f"sns-signing.{topic.region}.{topic.suffix}"}
    if topic.partition == "aws-cn":
        subjects.add(f"sns-{topic.region}.{topic.suffix}")
    if topic.partition == "aws-us-gov":
        subjects.add("sns-us-gov-west-1.amazonaws.com")
    return frozenset(subjects)
