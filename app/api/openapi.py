"""The description of the API: what FastAPI knows of the routes, and what it cannot know of bodies and problems."""

import copy
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.answers import MEDIA_TYPE
from app.api.errors import ProblemBody
from app.api.idempotency import HEADER, LONGEST_KEY, REPLAYED
from app.api.state import Kinds

Document = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{model}"
_BODY: Final = "x-body"
_IS_PATCH: Final = "x-is-patch"
_ALWAYS: Final = (401, 500, 503)
# FastAPI's own account of a 422, which is not what is sent.
_NOT_OURS: Final = ("HTTPValidationError", "ValidationError")

_FIRST_PROBLEM: Final = "400"
_KEY_SCHEME: Final[Document] = {"key": []}
_KEY_PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[ -~]+$"},
    "description": "Names this request: sent again with the same key and body, it has no second effect and is answered "
    "as the first time. Kept for a day unless set otherwise.",
}
_REPLAYED_HEADER: Final = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": "There when the answer is that of an earlier request with this `Idempotency-Key`.",
}

# Taken out before the config is validated, so that no config ever holds it.
_SECRET_WITHIN: Final = {
    "type": "string",
    "writeOnly": True,
    "description": "At creation: the same as `secret` beside the config, for those who look for it here.",
}


def problems(*statuses: int) -> dict[int | str, Document]:
    """Declare the problems a route under /v1 may answer, with those that all may."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model=ProblemBody.__name__)}}},
        }
        for status in sorted({*statuses, *_ALWAYS})
    }


def takes(model: type[BaseModel]) -> Document:
    """Declare the body of a route that reads it as a JsonObject and validates it against a model."""
    return {_BODY: model.__name__}


def takes_patch_of(model: type[BaseModel]) -> Document:
    """Declare a merge patch (RFC 7396) of a model as the body of a route."""
    return {_BODY: model.__name__, _IS_PATCH: True}


def describe(api: FastAPI, kinds: Kinds, bodies: Sequence[type[BaseModel]]) -> Document:
    """Make the OpenAPI 3.1 document; `bodies` are the models that routes declared with `takes`."""
    document = get_openapi(
        title=api.title, version=api.version, description=api.description, routes=api.routes, tags=api.openapi_tags
    )
    schemas: Document = document.setdefault("components", {}).setdefault("schemas", {})
    configs = [each.config for side in (kinds.destinations, kinds.sources) for each in side.values()]
    schemas.update(_schemas([ProblemBody, *bodies, *configs]))
    for kind in kinds.destinations.values():
        if kind.has_secret:
            schemas[kind.config.__name__]["properties"]["secret"] = _SECRET_WITHIN
    for prefix, side in (("Endpoint", kinds.destinations), ("Source", kinds.sources)):
        for name in (each for each in schemas if each.startswith(prefix) and "config" in schemas[each]["properties"]):
            _name_kinds(schemas[name]["properties"], {name: kind.config for name, kind in side.items()})
    for name in _declare_bodies(document):
        view = schemas[f"{name.removesuffix('Fields')}View"]
        schemas[_patch_name(name)] = _patch_schema(schemas[name], view)
    _drop_foreign_422(document)
    _declare_idempotency(document)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def as_text(document: Document) -> str:
    """Write the document the way it is kept in the repository."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _declare_bodies(document: Document) -> set[str]:
    """Put bodies in the place of their marks; gives the models of which patches are sent."""
    patched: set[str] = set()
    for path in document["paths"].values():
        for operation in path.values():
            name = operation.pop(_BODY, None)
            if name is None:
                continue
            types = ["application/json"]
            if operation.pop(_IS_PATCH, False):
                patched.add(name)
                name = _patch_name(name)
                types.append("application/merge-patch+json")
            schema = {"schema": {"$ref": _REFERENCE.format(model=name)}}
            operation["requestBody"] = {"required": True, "content": dict.fromkeys(types, schema)}
    return patched


def _declare_idempotency(document: Document) -> None:
    """Tell of the header that every POST with an API key heeds, and of what may be answered to it."""
    for path in document["paths"].values():
        operation = path.get("post", {})
        if _KEY_SCHEME not in operation.get("security", ()):
            continue
        operation.setdefault("parameters", []).append(_KEY_PARAMETER)
        responses: Document = {str(status): each for status, each in problems(400, 409, 413, 422).items()}
        responses |= operation["responses"]
        for status in (each for each in responses if each < _FIRST_PROBLEM):
            responses[status].setdefault("headers", {})[REPLAYED] = _REPLAYED_HEADER
        operation["responses"] = dict(sorted(responses.items()))


def _patch_name(model: str) -> str:
    return f"{model}Patch"


def _schemas(models: Sequence[type[BaseModel]]) -> Document:
    _, definitions = models_json_schema([(each, "validation") for each in models], ref_template=_REFERENCE)
    found: Document = definitions["$defs"]
    return found


def _name_kinds(properties: Document, configs: Mapping[str, type[BaseModel]]) -> None:
    properties["kind"] = {**properties["kind"], "enum": list(configs)}
    options = [{"$ref": _REFERENCE.format(model=each.__name__)} for each in configs.values()]
    kept = {key: value for key, value in properties["config"].items() if key in ("title", "description")}
    properties["config"] = {**kept, **(options[0] if len(options) == 1 else {"anyOf": options})}


def _patch_schema(schema: Document, view: Document) -> Document:
    # The members that can change, each of which may be left out; those with a default also null. Those that only read
    # may be sent back as they read.
    patch = copy.deepcopy(schema)
    patch["properties"] = {name: member for name, member in patch["properties"].items() if not member.get("writeOnly")}
    required = patch.pop("required", [])
    patch["title"] = _patch_name(patch["title"])
    patch["description"] = "A merge patch (RFC 7396): what is left out stays, null takes the default again."
    for name, member in patch["properties"].items():
        # What is inside is patched too: only the outcome has to hold as a whole.
        options = [{"type": "object"} if _is_object(member) else member]
        if name not in required and {"type": "null"} not in member.get("anyOf", ()):
            options.append({"type": "null"})
        patch["properties"][name] = options[0] if len(options) == 1 else {"anyOf": options}
    for name, member in view["properties"].items():
        patch["properties"].setdefault(name, {**member, "readOnly": True})
    return patch


def _is_object(member: Document) -> bool:
    options = member.get("anyOf", [member])
    return all("$ref" in each or each.get("type") == "object" for each in options)


def _drop_foreign_422(document: Document) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if str(content.get("application/json", {}).get("schema", {}).get("$ref", "")).endswith(_NOT_OURS):
                del operation["responses"]["422"]
    for name in _NOT_OURS:
        document["components"]["schemas"].pop(name, None)
