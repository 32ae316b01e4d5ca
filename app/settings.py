"""The only reader of the environment and of bucketpost.yaml: environment over file over defaults, read once, frozen.

Every name stands in deploy/.env.example, kept so by a test.
"""

import difflib
import os
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from app.domain.authority import is_authority
from app.domain.errors import SettingsError
from app.outbound.nameservers import Nameserver, parse_nameserver

PREFIX: Final = "BUCKETPOST_"
TEST_PREFIX: Final = "BUCKETPOST_TEST_"
FILE: Final = "bucketpost.yaml"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _public_url(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    scheme, _, authority = value.strip().removesuffix("/").partition("://")
    if not value.strip():
        return None
    if scheme.lower() not in ("http", "https") or not is_authority(authority):
        raise ValueError("give https://host or https://host:port, without a path, a query or credentials")
    return f"{scheme.lower()}://{authority}"


Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split)]


def _nameservers(value: Any) -> Any:
    parts = _split(value)
    return tuple(parse_nameserver(part) for part in parts) if isinstance(parts, list) else parts


Nameservers = Annotated[tuple[Nameserver, ...], NoDecode, BeforeValidator(_nameservers)]


class _Section(BaseModel):
    # Forbidding here as well: pydantic-settings looks for unknown names only on the outermost model.
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Section):
    """How the database is used."""

    pool_size: int = Field(default=10, ge=2, le=200, description="connections a process opens at most")


class ServerSettings(_Section):
    """Where the process listens and how it stops."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    stop_seconds: float = Field(
        default=25, gt=0, le=3600, description="after SIGTERM, what is in flight may take this long"
    )
    public_url: Annotated[str | None, BeforeValidator(_public_url)] = Field(
        default=None,
        description="where stores and SNS reach this gateway, as https://host or https://host:port; "
        "empty: where the API was asked",
    )


class LogSettings(_Section):
    """What the log looks like."""

    format: Literal["auto", "json", "text"] = Field(default="auto", description="auto is json unless on a terminal")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least level written")
    delivered: bool = Field(default=True, description="a line for each delivered attempt; failed ones always have one")


class IngestSettings(_Section):
    """How much the left half holds."""

    max_messages: int = Field(
        default=2000, ge=10, le=100_000, description="messages held and not yet recorded, at most"
    )
    stalled_after_seconds: float = Field(
        default=300, gt=0, le=86_400, description="a source that was failing for so long is told as stalled"
    )
    stalled_age_seconds: float = Field(
        default=900, gt=0, le=1_209_600, description="so is one whose queue hands out messages that waited so long"
    )


class DeliverySettings(_Section):
    """How the right half works."""

    allow_cidrs: Networks = Field(
        default=(), description="private networks webhooks may go to, separated by commas: 10.0.0.0/8,fd00::/8"
    )
    nameservers: Nameservers = Field(
        default=(),
        description="name servers to ask for the hosts of webhooks, separated by commas: 10.0.0.2,10.0.0.3:5353; "
        "empty: as the system does",
    )
    max_in_flight: int = Field(default=512, ge=1, le=10_000, description="attempts in flight in one process, at most")
    lease_seconds: float = Field(
        default=10, ge=1, le=300, description="a lane of a killed replica is taken over after this long"
    )
    disable_after_days: float = Field(
        default=5, gt=0, le=365, description="an endpoint whose attempts all failed for so long is disabled"
    )


class RetentionSettings(_Section):
    """How long things are kept."""

    event_days: int = Field(
        default=30, ge=1, le=3650, description="events, by the day they happened (SQLite: by when they were recorded)"
    )
    attempt_days: int = Field(default=30, ge=1, le=3650, description="attempts, by the day they were made")
    dead_letter_days: int = Field(default=30, ge=1, le=3650, description="dead letters, by when they were given up")
    quarantine_days: int = Field(default=30, ge=1, le=3650, description="the quarantine, by when it was last seen")
    idempotency_hours: int = Field(
        default=24, ge=1, le=8760, description="answers to requests with an Idempotency-Key; in hours"
    )


class Settings(BaseSettings):
    """Everything an operator can set. Made by `read_settings`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        yaml_file=FILE,
        extra="forbid",
        frozen=True,
    )

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///bucketpost.db"),
        description="sqlite:///relative.db, sqlite:////absolute.db or postgresql://user:password@host/database",
    )
    database: DatabaseSettings = DatabaseSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    ingest: IngestSettings = IngestSettings()
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()

    @property
    def allow_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Give the private networks that webhooks may go to."""
        return tuple(self.delivery.allow_cidrs)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: what the command line gave, the environment, the file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def read_settings() -> Settings:
    """Read and check every setting. Raises SettingsError with a sentence that says what to change."""
    _refuse_unknown_names()
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(each) for each in error.errors())) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # Bad YAML arrives under several roofs; its text names line and column.
        where = f"{FILE} cannot be read" if Path(FILE).exists() else "The settings cannot be read"
        raise SettingsError(f"{where}: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise SettingsError(f"{FILE} is not YAML: {error}") from error
        raise


def names() -> dict[str, tuple[str, str]]:
    """Give every environment name with its default and its description, in the order of the sections."""
    return {name: (_default_text(field.get_default()), field.description or "") for name, field in _fields()}


def _fields() -> Iterator[tuple[str, Any]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            for inner, inner_field in field.annotation.model_fields.items():
                yield f"{PREFIX}{name}__{inner}".upper(), inner_field
        else:
            yield f"{PREFIX}{name}".upper(), field


def _default_text(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _refuse_unknown_names() -> None:
    known = list(names())
    for name in os.environ:
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in known:
            raise SettingsError(f"There is no setting {name}{_nearest(name, known)}. Remove it or mend its name.")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; the nearest is {close[0]}" if close else ""


def _sentence(error: Any) -> str:
    path = [str(part) for part in error["loc"] if not isinstance(part, int)]
    name = PREFIX + "__".join(path).upper()
    written = name if name in os.environ else f"{FILE}: {'.'.join(path)}"
    if error["type"] == "extra_forbidden":
        known = {each.removeprefix(PREFIX).lower().replace("__", "."): each for each in names()}
        close = difflib.get_close_matches(".".join(path), list(known), n=1, cutoff=0.5)
        hint = f"; the nearest is {close[0]}" if close else ""
        return f"{written} is not a setting{hint}. Remove it or mend its name."
    return f"{written} cannot be {error['input']!r}: {error['msg']}."
