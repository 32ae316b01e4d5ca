"""What a caller may say of a source: its fields, its config by its kind, and what only reads."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import drop_unchanged, merge_known, refuse_fields, validate
from app.api.errors import invalid_field
from app.api.fields import Name
from app.api.state import ApiState
from app.domain.configuration import JSON, Source
from app.sources import PushKind

# These move by themselves: whoever sends back the whole of what was read cannot know what they are by then.
LIVE: Final = (
    "push_url",
    "state",
    "last_error",
    "last_received_at",
    "last_event_at",
    "test_event_at",
    "events_per_second",
    "lag_seconds",
    "queue",
    "quarantined",
)

_READ_ONLY: Final = ("id", *LIVE, "created_at", "updated_at")
_TOKEN_BYTES: Final = 32
_TOKEN: Final = "The token is made when the source is created; POST to its /rotate-token makes a new one."  # noqa: S105 -- tells of a token


class SourceFields(BaseModel):
    """What a caller says of a source."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: str = Field(description="Cannot change.")
    config: dict[str, Any] = Field(description="What the kind needs to know.")
    paused: bool = Field(default=False, description="Nothing is taken from it while it is paused.")


def read_new(state: ApiState, body: Mapping[str, JSON]) -> SourceFields:
    """Read what a source is to be. Raises Problem."""
    _refuse_read_only(body)
    return _validated(state, merge_known(SourceFields, {}, body))


def read_changed(state: ApiState, source: Source, patch: Mapping[str, JSON], *, view: BaseModel) -> SourceFields:
    """Read what a source would be after a merge patch; `view` is how it reads. Raises Problem."""
    shown = view.model_dump(mode="json", include={"id"})
    if patch.get("id") == shown["id"]:
        patch = {name: value for name, value in patch.items() if name not in LIVE}
    patch = drop_unchanged(SourceFields, patch, view)
    _refuse_read_only(patch)
    stored: JSON = {
        "name": source.name,
        "kind": source.kind,
        "config": dict(source.config),
        "paused": source.is_paused,
    }
    merged = merge_known(SourceFields, stored, patch)
    if patch.get("kind", source.kind) != source.kind:
        raise invalid_field("/kind", "The kind of a source cannot change.")
    return _validated(state, merged)


def make_token() -> tuple[str, bytes]:
    """Make the token of a push source: what its senders are told, and what is kept of it."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, hashlib.sha256(token.encode("ascii")).digest()


def has_token(state: ApiState, kind: str) -> bool:
    """Tell whether sources of a kind have a token: those that are pushed to do."""
    return isinstance(state.source_kinds.get(kind), PushKind)


def _refuse_read_only(body: Mapping[str, JSON]) -> None:
    refuse_fields(body, _READ_ONLY, "This field is read only.")
    refuse_fields(body, ("token",), _TOKEN)


def _validated(state: ApiState, whole: JSON) -> SourceFields:
    fields = validate(SourceFields, whole)
    kind = state.source_kinds.get(fields.kind)
    if kind is None:
        raise invalid_field("/kind", f"The kind must be one of: {', '.join(state.source_kinds)}.")
    config = validate(kind.config, fields.config, under=("config",))
    return fields.model_copy(update={"config": config.model_dump(mode="json")})
