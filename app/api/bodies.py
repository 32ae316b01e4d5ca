"""Request bodies: strict JSON in, values that every database takes, merged (RFC 7396) and validated whole.

JSON is told by the body, not by its Content-Type: what is JSON is taken, and what is not is turned down.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Final, NoReturn, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from app.api.errors import FieldError, field_errors, invalid, invalid_field, malformed, pointer_to
from app.domain.configuration import JSON

DEEPEST: Final = 32

_Model = TypeVar("_Model", bound=BaseModel)
_Path = tuple[str | int, ...]


async def _json_object(request: Request) -> dict[str, JSON]:
    body = _read_json(await request.body())
    if not isinstance(body, dict):
        raise invalid_field("", "The body must be a JSON object.")
    if errors := tuple(_unstorable(body)):
        raise invalid(errors)
    return body


JsonObject = Annotated[dict[str, JSON], Depends(_json_object)]
"""The body of a request, a JSON object. To be named after the Tenant: nobody's body is read before we know whose."""


def validate(
    model: type[_Model], value: JSON, *, under: Sequence[str | int] = (), context: Mapping[str, Any] | None = None
) -> _Model:
    """Read a value into a model, types as strict as JSON's. Raises Problem, its pointers beginning with `under`."""
    try:
        # Through JSON once more: pydantic then takes an array for a tuple, and nothing else for anything else.
        return model.model_validate_json(json.dumps(value), strict=True, context=dict(context or {}))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid(field_errors(found, under=under)) from None


def merge(target: JSON, patch: JSON) -> JSON:
    """Apply a merge patch, RFC 7396; the arguments stay as they are."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def merge_known(model: type[BaseModel], target: JSON, patch: Mapping[str, JSON]) -> JSON:
    """Apply a merge patch that names fields of the model only: a null would else hide a wrong name. Raises Problem."""
    if errors := [
        FieldError(pointer=pointer_to((name,)), detail="There is no such field.")
        for name in patch
        if name not in model.model_fields
    ]:
        raise invalid(errors)
    return merge(target, dict(patch))


def drop_unchanged(model: type[BaseModel], patch: Mapping[str, JSON], view: BaseModel) -> dict[str, JSON]:
    """Leave out of a patch what only reads and was sent back as it reads: who got the whole may send the whole."""
    shown = view.model_dump(mode="json")
    return {
        name: value
        for name, value in patch.items()
        if name in model.model_fields or name not in shown or value != shown[name]
    }


def refuse_fields(body: Mapping[str, JSON], names: Sequence[str], detail: str) -> None:
    """Turn down fields that are known, but not to be sent. Raises Problem."""
    if errors := [FieldError(pointer=f"/{name}", detail=detail) for name in names if name in body]:
        raise invalid(errors)


def _read_json(body: bytes) -> JSON:
    if not body.strip():
        raise malformed("The body is empty: send a JSON object.")
    try:
        value: JSON = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object_of_unique_names
        )
    except UnicodeDecodeError:
        raise malformed("The body is not UTF-8.") from None
    except RecursionError:
        raise malformed("The body is nested too deep.") from None
    except json.JSONDecodeError as error:
        raise malformed(f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    except ValueError as error:
        # Numbers of thousands of digits: Python's own words would tell of Python.
        reason = "a number in it is too long" if "int_max_str_digits" in str(error) else error
        raise malformed(f"The body is not JSON: {reason}.") from None
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no numbers of JSON")


def _object_of_unique_names(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _unstorable(body: JSON) -> Iterator[FieldError]:
    """Find what JSON allows and no database keeps. Without recursion: the depth is the caller's choice."""
    waiting: list[tuple[_Path, JSON]] = [((), body)]
    while waiting:
        path, value = waiting.pop()
        if len(path) > DEEPEST:
            raise malformed("The body is nested too deep.")
        if isinstance(value, dict):
            yield from (_wrong_text((*path, name)) for name in value if not _is_storable(name))
            waiting.extend(((*path, name), member) for name, member in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, index), member) for index, member in enumerate(value))
        elif isinstance(value, str) and not _is_storable(value):
            yield _wrong_text(path)
        elif isinstance(value, float) and not isfinite(value):
            yield FieldError(pointer=pointer_to(path), detail="This number is too large.")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _wrong_text(path: _Path) -> FieldError:
    return FieldError(pointer=pointer_to(path), detail="Text must hold neither NUL nor half a surrogate pair.")
