"""WHERE IT COMES FROM: one file a kind, and the registry of kinds. What a message says is decode's work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from app.domain.configuration import Source
from app.domain.ports import PullSource
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of source: what its config may say, and how one is opened (without any call yet)."""

    config: type[BaseModel]
    open: Callable[[Source], PullSource]


KINDS: Final[Mapping[str, Kind]] = {
    "sqs": Kind(config=SqsConfig, open=SqsSource.open),
}
