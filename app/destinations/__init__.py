"""WHERE IT GOES: one file a kind, and the registry of kinds. What follows from an outcome is the domain's to judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import BaseModel

from app.destinations.kafka import Kafka
from app.destinations.kafka_config import KafkaConfig
from app.destinations.webhook import Webhook
from app.destinations.webhook_config import WebhookConfig, hide_headers
from app.domain.configuration import JSON, Format, Ordering
from app.domain.ports import Destination, Now
from app.outbound.guard import Network
from app.outbound.nameservers import Nameserver


class Open(Protocol):
    """Makes the one destination of a kind, without any call yet and outside of an event loop too."""

    def __call__(
        self, *, allow_cidrs: Sequence[Network], version: str, now: Now, nameservers: Sequence[Nameserver] = ()
    ) -> Destination:
        """Take the private networks the installation opened, the version to introduce ourselves with, and the clock.

        `nameservers` are asked for the hosts of webhooks; without any, the system is.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of destination.

    `config` is validated with the context `{"allow_cidrs": networks}`; `public_config` gives what people may read back.
    """

    config: type[BaseModel]
    public_config: Callable[[Mapping[str, JSON]], dict[str, JSON]]
    default_format: Format
    default_ordering: Ordering
    has_secret: bool
    open: Open


KINDS: Final[Mapping[str, Kind]] = {
    "webhook": Kind(
        config=WebhookConfig,
        public_config=hide_headers,
        default_format="standard",
        default_ordering="none",
        has_secret=True,
        open=Webhook.open,
    ),
    "kafka": Kind(
        config=KafkaConfig,
        public_config=dict,
        default_format="cloudevents-binary",
        default_ordering="key",
        has_secret=False,
        open=Kafka.open,
    ),
}
