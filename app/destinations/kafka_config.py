"""What the `config` of a Kafka endpoint may say. Producing is in kafka.py."""

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.outbound.guard import check_host, judge_metadata

MOST_SERVERS: Final = 32
HIGHEST_PORT: Final = 65_535

_SERVER: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class KafkaConfig(BaseModel):
    """Which cluster and topic. Brokers are the operator's choice: only metadata services are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field(description="`host:port`, several separated by commas", examples=["kafka:9092"])
    topic: str = Field(description="must exist; it is never made", examples=["uploads"])

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, text: str) -> str:
        servers = parse_servers(text)
        for host, _ in servers:
            check_host(host, judge_metadata)
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in servers)

    @field_validator("topic")
    @classmethod
    def _check_topic(cls, topic: str) -> str:
        if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            raise ValueError("A topic has 1 to 249 letters, digits, dots, underscores and hyphens.")
        if topic.startswith("__"):
            raise ValueError("Topics that begin with __ are Kafka's own.")
        return topic


def parse_servers(text: str) -> list[tuple[str, int]]:
    """Read `host:port[,host:port]`. Raises ValueError with a sentence for people."""
    parts = [part.strip(" ") for part in text.split(",")]
    if len(parts) > MOST_SERVERS:
        raise ValueError(f"There are at most {MOST_SERVERS} servers.")
    servers = []
    for part in parts:
        match = _SERVER.fullmatch(part)
        if match is None or not 0 < int(match["port"]) <= HIGHEST_PORT:
            raise ValueError(f"{part!r} is not host:port.")
        servers.append((match["v6"] or match["name"], int(match["port"])))
    return servers
