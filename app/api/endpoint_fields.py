"""What a caller may say of an endpoint: its fields, its config by its kind, its secret, and what reads back hidden."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import merge_known, refuse_fields, validate
from app.api.errors import FieldError, invalid, invalid_field, pointer_to
from app.api.fields import Name
from app.api.state import ApiState, DestinationKind
from app.destinations.signing import make_secret, parse_secret
from app.domain.configuration import (
    DEFAULT_MAX_AGE_SECONDS,
    DEFAULT_SCHEDULE_SECONDS,
    JSON,
    Consequence,
    Endpoint,
    Late,
    OnDead,
    Ordering,
)
from app.store.endpoints import NewEndpoint

HIDDEN: Final = "***"
LONGEST_TIMEOUT_SECONDS: Final = 120
MOST_IN_FLIGHT: Final = 1000
MOST_RETRIES: Final = 100
LONGEST_DELAY_SECONDS: Final = 7 * 86_400
LONGEST_AGE_SECONDS: Final = 30 * 86_400
HIGHEST_RATE: Final = 100_000
LOWEST_RATE: Final = 0.001
MOST_ANSWERS: Final = 100
LONGEST_WINDOW_SECONDS: Final = 60

_READ_ONLY: Final = ("id", "state", "disabled_at", "disabled_reason", "created_at", "updated_at")
_Answer = Annotated[
    str,
    Field(pattern=r"^[345]([0-9]{2}|xx)$", description="A code, or a class such as 4xx; a 2xx is always delivered."),
]


class RetryFields(BaseModel):
    """When a delivery that failed is tried again."""

    model_config = ConfigDict(extra="forbid")

    schedule_seconds: Annotated[
        list[Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS)]], Field(max_length=MOST_RETRIES)
    ] = Field(
        default=list(DEFAULT_SCHEDULE_SECONDS),
        description="The wait after each failure, times a random 0.8 to 1.2; after the last one the delivery is dead.",
    )
    max_age_seconds: float = Field(
        default=DEFAULT_MAX_AGE_SECONDS,
        gt=0,
        le=LONGEST_AGE_SECONDS,
        description="A delivery owed for longer is not tried again: it is dead, reason `expired`.",
    )


class EndpointFields(BaseModel):
    """What a caller says of an endpoint."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: str = Field(description="Cannot change.")
    config: dict[str, Any] = Field(description="What the kind needs to know.")
    ordering: Ordering | None = Field(
        default=None,
        description="Which deliveries wait for earlier ones: none, those of the same object (`key`), or all "
        "(`endpoint`). Default: `none`; of Kafka `key`.",
    )
    on_dead: OnDead = Field(
        default="skip",
        description="Ordered, and one is dead: those that waited for it go on, or stay until it is retried.",
    )
    reorder_window_seconds: float = Field(
        default=0,
        ge=0,
        le=LONGEST_WINDOW_SECONDS,
        description="With `ordering: key`: each delivery waits for so long, and of those of an object that are owed "
        "then the oldest goes first, where the store's sequencer tells; else by arrival.",
    )
    late: Late = Field(
        default="deliver",
        description="With `ordering: key`: what becomes of an event that is older than what the receiver has of its "
        "object, where the sequencer tells: sent, sent with `Bucketpost-Late: true`, or cancelled, reason `late`.",
    )
    timeout_seconds: float = Field(
        default=15, gt=0, le=LONGEST_TIMEOUT_SECONDS, description="How long one attempt may take."
    )
    max_in_flight: int = Field(
        default=8, ge=1, le=MOST_IN_FLIGHT, description="Attempts under way at once; for Kafka: batches."
    )
    rate_limit_per_second: float | None = Field(
        default=None,
        ge=LOWEST_RATE,
        le=HIGHEST_RATE,
        description="Attempts a second at most, over all replicas; null: no limit.",
    )
    retry: RetryFields = RetryFields()
    answers: dict[_Answer, Consequence] = Field(
        default_factory=dict,
        max_length=MOST_ANSWERS,
        description="What follows from an answer, where it is not the usual: a code or class, and what to do.",
    )
    paused: bool = Field(default=False, description="Nothing is sent while paused; what is owed stays owed.")
    secret: str | None = Field(
        default=None,
        description="Of a webhook, at creation only: `whsec_` and 24 to 64 bytes in base64. Made if not given.",
        json_schema_extra={"writeOnly": True},
    )


def read_new(state: ApiState, body: Mapping[str, JSON]) -> NewEndpoint:
    """Read what an endpoint is to be. Raises Problem."""
    refuse_fields(body, _READ_ONLY, "This field is read only.")
    fields = validate(EndpointFields, merge_known(EndpointFields, {}, body))
    kind = _kind(state, fields)
    config = dict(fields.config)
    secret = _take_secret(kind, fields, config)
    return _validated(state, kind, fields, restore_hidden(kind, config, stored={}), secret)


def read_changed(state: ApiState, endpoint: Endpoint, patch: Mapping[str, JSON]) -> NewEndpoint:
    """Read what an endpoint would be after a merge patch. Raises Problem."""
    refuse_fields(patch, _READ_ONLY, "This field is read only.")
    refuse_fields(patch, ("secret",), "The secret is given or made when the endpoint is created.")
    if patch.get("kind", endpoint.kind) != endpoint.kind:
        raise invalid_field("/kind", "The kind of an endpoint cannot change.")
    fields = validate(EndpointFields, merge_known(EndpointFields, _as_fields(endpoint), patch))
    kind = _kind(state, fields)
    config = restore_hidden(kind, fields.config, stored=endpoint.config)
    return _validated(state, kind, fields, config, endpoint.secret)


def restore_hidden(
    kind: DestinationKind, config: Mapping[str, JSON], *, stored: Mapping[str, JSON]
) -> Mapping[str, JSON]:
    """Put what is stored in the place of what came back as it reads: hidden. Raises Problem where nothing is stored."""
    errors: list[FieldError] = []

    def restore(value: JSON, hidden: JSON, kept: JSON, path: tuple[str, ...]) -> JSON:
        if isinstance(value, dict) and isinstance(hidden, dict):
            within = kept if isinstance(kept, dict) else {}
            return {
                name: restore(member, hidden.get(name), within.get(name), (*path, name))
                for name, member in value.items()
            }
        if value != HIDDEN or hidden != HIDDEN:
            return value
        if kept is None:
            errors.append(FieldError(pointer=pointer_to(path), detail="There is no value to keep: send one."))
        return kept

    restored = restore(dict(config), dict(kind.public_config(config)), dict(stored), ("config",))
    if errors:
        raise invalid(errors)
    return restored if isinstance(restored, dict) else {}


def _kind(state: ApiState, fields: EndpointFields) -> DestinationKind:
    kind = state.destination_kinds.get(fields.kind)
    if kind is None:
        raise invalid_field("/kind", f"The kind must be one of: {', '.join(state.destination_kinds)}.")
    return kind


def _take_secret(kind: DestinationKind, fields: EndpointFields, config: dict[str, JSON]) -> bytes | None:
    """Take the secret from where it was given, out of the config too, or make it."""
    if not kind.has_secret:
        if fields.secret is not None:
            raise invalid_field("/secret", f"An endpoint of kind {fields.kind} has no secret.")
        return None
    if "secret" not in config:
        return make_secret() if fields.secret is None else _parse_secret(fields.secret, "/secret")
    given = config.pop("secret")
    if fields.secret is not None or not isinstance(given, str):
        raise invalid_field("/config/secret", "Give the secret once, as text: beside the config.")
    return _parse_secret(given, "/config/secret")


def _parse_secret(text: str, pointer: str) -> bytes:
    try:
        return parse_secret(text)
    except ValueError as error:
        raise invalid_field(pointer, str(error)) from None


def _validated(
    state: ApiState, kind: DestinationKind, fields: EndpointFields, config: Mapping[str, JSON], secret: bytes | None
) -> NewEndpoint:
    checked = validate(kind.config, dict(config), under=("config",), context={"allow_cidrs": state.allow_cidrs})
    ordering = fields.ordering or kind.default_ordering
    _check_places(fields, ordering)
    return NewEndpoint(
        name=fields.name,
        kind=fields.kind,
        config=checked.model_dump(mode="json"),
        secret=secret,
        ordering=ordering,
        on_dead=fields.on_dead,
        reorder_window_seconds=fields.reorder_window_seconds,
        late=fields.late,
        timeout_seconds=fields.timeout_seconds,
        max_in_flight=fields.max_in_flight,
        rate_limit_per_second=fields.rate_limit_per_second,
        schedule_seconds=tuple(fields.retry.schedule_seconds),
        max_age_seconds=fields.retry.max_age_seconds,
        answers=fields.answers,
        is_paused=fields.paused,
    )


def _check_places(fields: EndpointFields, ordering: Ordering) -> None:
    """Refuse what only makes sense among the deliveries of one object. Raises Problem."""
    wrong = {
        "/reorder_window_seconds": fields.reorder_window_seconds > 0,
        "/late": fields.late != "deliver",
    }
    errors = [
        FieldError(pointer=pointer, detail=f"This needs `ordering: key`; the endpoint has `{ordering}`.")
        for pointer, is_said in wrong.items()
        if is_said and ordering != "key"
    ]
    if errors:
        raise invalid(errors)


def _as_fields(endpoint: Endpoint) -> JSON:
    return {
        "name": endpoint.name,
        "kind": endpoint.kind,
        "config": dict(endpoint.config),
        "ordering": endpoint.ordering,
        "on_dead": endpoint.on_dead,
        "reorder_window_seconds": endpoint.reorder_window_seconds,
        "late": endpoint.late,
        "timeout_seconds": endpoint.timeout_seconds,
        "max_in_flight": endpoint.max_in_flight,
        "rate_limit_per_second": endpoint.rate_limit_per_second,
        "retry": {"schedule_seconds": list(endpoint.schedule_seconds), "max_age_seconds": endpoint.max_age_seconds},
        "answers": dict(endpoint.answers),
        "paused": endpoint.is_paused,
    }
