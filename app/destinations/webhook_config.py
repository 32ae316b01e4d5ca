"""What the `config` of a webhook may say: its URL and headers of its own. How requests are made is in webhook.py."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from app.domain.configuration import JSON
from app.outbound.guard import Network, check_url

MOST_HEADERS: Final = 50
LONGEST_VALUE: Final = 4096
HIDDEN: Final = "***"

# RFC 9110, 5.1 and 5.6.2: a field's name is a token; 5.5: its value, here without anything that is not ASCII.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")
# What frames the message or belongs to the connection (RFC 9110, 7.6.1), and what every request says by itself.
_NOT_THEIRS: Final = frozenset(
    {
        "host", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "content-length", "content-encoding", "expect",
        "content-type", "user-agent", "idempotency-key", "bucketpost-late",
    }
)  # fmt: skip
_NOT_THEIR_PREFIXES: Final = ("webhook-", "ce-")


class WebhookConfig(BaseModel):
    """Where a webhook goes. The context `allow_cidrs` of a validation names the private networks that are open."""

    # A header's value may be a credential: it stays out of the error too.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(description="http or https; port 80, 443 or from 1024", examples=["https://example.com/hooks"])
    headers: dict[str, str] = Field(default_factory=dict, description='sent along; values read back as "***"')

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        context = cast("Mapping[str, Sequence[Network]]", info.context or {})
        check_url(url, context.get("allow_cidrs", ()))
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        if len(headers) > MOST_HEADERS:
            raise ValueError(f"There are at most {MOST_HEADERS} headers.")
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("A header is named once, whatever its case.")
        for name, value in headers.items():
            check_header(name, value)
        return headers


def check_header(name: str, value: str) -> None:
    """Judge one header of an endpoint's own. Raises ValueError with a sentence that never holds the value."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header.")
    lowered = name.lower()
    if lowered in _NOT_THEIRS or lowered.startswith(_NOT_THEIR_PREFIXES):
        raise ValueError(f"The header {name} is not for an endpoint to set.")
    if len(value) > LONGEST_VALUE or not _VALUE.fullmatch(value):
        raise ValueError(f"The value of {name} is not up to {LONGEST_VALUE} characters of printable ASCII.")


def hide_headers(config: Mapping[str, JSON]) -> dict[str, JSON]:
    """Give a webhook's config as people may read it back: without the values of its headers."""
    headers = config.get("headers")
    names = headers if isinstance(headers, dict) else {}
    return {**config, "headers": dict.fromkeys(names, HIDDEN)}
