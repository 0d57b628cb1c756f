"""OpenAPI document of the server, from its tables and the model's fields."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NamedTuple

from dien_fuxictr.common.version import __version__
from dien_fuxictr.dataset.encoding.online import FieldError

from .asgi import ACCEPTED, Answer, BadGzip, Receive, Scope, TooLarge, UnknownCoding
from .explain import MOST
from .log import HEADER
from .model_service import Malformed, ModelService
from .queueing import DEADLINE, BadDeadline, Full, Late
from .request import CANDIDATES


class BadQuery(ValueError):
    """A query that says neither yes nor no."""


class Loading(Exception):
    """The model is not loaded yet."""


class Refusal(NamedTuple):
    """How the server answers an exception.

    Attributes:
        status: status of the answer.
        meaning: what it says to a reader of the document.
    """

    status: int
    meaning: str


REFUSALS: dict[type[Exception], Refusal] = {
    Malformed: Refusal(400, "The body is not JSON."),
    BadGzip: Refusal(400, "The body is not gzip, although Content-Encoding says so."),
    BadDeadline: Refusal(400, f"{DEADLINE} is not a number of milliseconds, 1 or more."),
    BadQuery: Refusal(400, "unknown in the query is neither 0 nor 1."),
    TooLarge: Refusal(413, "The body, as it is sent or when it is unpacked, is larger than the server reads."),
    UnknownCoding: Refusal(415, f"Content-Encoding is none of {ACCEPTED}."),
    FieldError: Refusal(422, "A field is missing, unknown, of another type, or too long; `field` names it."),
    Loading: Refusal(503, "The model is loading."),
    Full: Refusal(503, "The server has as many requests as it takes."),
    Late: Refusal(504, "The answer would come after the deadline of the request."),
}
"""Error that an endpoint raises -> answer of the server; any other error gives 500."""


def refusal_of(problem: Exception) -> Refusal:
    """Return how the server answers an exception of one of the classes in `REFUSALS`."""
    return next(REFUSALS[kind] for kind in type(problem).__mro__ if kind in REFUSALS)


class Endpoint(NamedTuple):
    """Description of the answers at a path.

    Attributes:
        methods: the first one is described; HEAD is that method without a body.
        answer: a function of the application, the scope and `receive`.
        name: name of the operation.
        summary: what it does.
        answers: the schema of the JSON, or the media type of any other answer.
        takes: the schema of the body; "" without a body.
        raises: members of `REFUSALS`.
    """

    methods: tuple[str, ...]
    answer: Callable[[Any, Scope, Receive], Awaitable[Answer]]
    name: str
    summary: str
    answers: str
    takes: str = ""
    raises: Collection[type[Exception]] = ()


def _object(properties: dict[str, Any], optional: Collection[str] = (), **more: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, **more}


def _list(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items} | ({"description": description} if description else {})


def _map(values: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values} | ({"description": description} if description else {})


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
_NUMBERS, _TRUE = _list(_NUMBER), {"type": "boolean", "const": True}
_DIGEST = _TEXT | {"description": "Digest of the bundle that answers."}
_SCORES = _list(_NUMBER, "One score per candidate, in the order of the request: the predicted probability of a click.")
_PER_CANDIDATE = _list(_NUMBERS, "One list per candidate, one number per behaviour.")
SCHEMAS: dict[str, dict[str, Any]] = {
    "Scores": _object({"model": _DIGEST, "scores": _SCORES, "unknown": _ref("Unknown")}, ["unknown"]),
    "BatchScores": _object(
        {"model": _DIGEST, "scores": _list(_SCORES, "Per user."), "unknown": _list(_ref("Unknown"), "Per user.")},
        ["unknown"],
    ),
    "Explanation": _object(
        {"model": _DIGEST, "scores": _SCORES, "unknown": _ref("Unknown"), "sequences": _list(_ref("Sequence"))},
        ["unknown"],
    ),
    "Unknown": _object(
        {
            "user": _COUNT | {"description": "Of the user's fields of one value."},
            "candidates": _list(_COUNT, "Per candidate."),
            "behaviours": _map(_list(_COUNT), "First field of aligned sequences -> count per behaviour."),
        },
        description="How many fields are out of vocabulary or missing. ?unknown=0 leaves this out.",
    ),
    "Sequence": _object(
        {
            "fields": _list(_TEXT, "Of a behaviour, the item first."),
            "seen": _list(
                {"type": "integer", "minimum": -1},
                "Places in the request's lists of the behaviours that the model reads, from 0, the oldest first; -1 "
                "where an empty list stands for one behaviour.",
            ),
            "attention": _PER_CANDIDATE | {"type": ["array", "null"]},
            "movement": _PER_CANDIDATE,
            "path": _list(_list(_NUMBERS), "One list per candidate: points of two coordinates."),
            "explained_variance": _list(_NUMBER, "Shares of the two principal components in which paths are drawn."),
        },
        ["attention", "movement", "path", "explained_variance"],
        description="What the model does with one sequence of behaviours.",
    ),
    "Model": _object(
        {
            "model": _DIGEST,
            "expid": _TEXT | {"description": "Experiment id."},
            "metrics": _map(_NUMBER, "The validation that chose the checkpoint."),
            "trained": {"type": ["string", "null"], "description": "When the checkpoint was written, ISO 8601."},
            "versions": _map(_TEXT, "Package -> version that wrote the bundle."),
            "features": _list({"type": "object"}, "Fields that the model reads."),
            "limits": _object({"candidates": _COUNT, "behaviours": _COUNT, "users": _COUNT}),
            "example": _ref("Request"),
        }
    ),
    "Examples": _object(
        {
            "model": _DIGEST,
            "examples": _list(_ref("Request"), "Users of the test set."),
            "titles": _map(_TEXT, "Item -> its title."),
            "item_fields": _list(_TEXT, "Fields of an item."),
        }
    ),
    "Live": _object({"live": _TRUE}),
    "Ready": _object({"ready": _TRUE}),
    "Document": {"type": "object", "description": "This document."},
    "Error": _object(
        {
            "error": _TEXT | {"description": "What is wrong, in one line."},
            "field": _TEXT | {"description": "The field that is wrong (422)."},
            "request_id": _TEXT | {"description": "Under which the server's log has the traceback (500)."},
        },
        ["field", "request_id"],
    ),
}
"""Schemas of all bodies except requests, which depend on the model."""
_INTRODUCTION = (
    "Scores candidates for a user with a model of the DIEN-FuxiCTR project. Fields and limits are those of the model "
    "and the server that wrote this document. Every answer has the id of its request in the header "
    f"{HEADER.decode()}; a request may bring its own."
)
_PARAMETERS = [
    {
        "name": "unknown",
        "in": "query",
        "description": "0 leaves `unknown` out of the answer.",
        "schema": {"type": "string", "enum": ["0", "1"], "default": "1"},
    },
    {
        "name": DEADLINE,
        "in": "header",
        "description": "How long the client waits, in milliseconds. Envoy and Istio set this header.",
        "schema": {"type": "integer", "minimum": 1},
    },
    {
        "name": "content-encoding",
        "in": "header",
        "description": "gzip for a packed body.",
        "schema": {"type": "string", "enum": ACCEPTED.split(", ")},
    },
]


def openapi_document(endpoints: Mapping[str, Endpoint], service: ModelService) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server.

    Args:
        endpoints: path -> what is answered there.
        service: the model, whose fields the requests have.
    """
    one, few = service.example, dict(service.example)
    few[CANDIDATES] = {field: values[:MOST] for field, values in one[CANDIDATES].items()}
    examples = {"Request": one, "Batch": {"requests": [one]}, "RequestToExplain": few}
    batch = {"requests": _list(_ref("Request")) | {"maxItems": service.limits.users}}
    requests = {
        "Request": service.request_schema(),
        "RequestToExplain": _ref("Request") | {"description": f"Has 1 to {MOST} candidates."},
        "Batch": _object(batch, description=f"All users together have {service.limits.candidates} candidates at most."),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Scores of {service.expid}", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "paths": {
            path: {method.lower(): _operation(endpoint, method, examples) for method in endpoint.methods}
            for path, endpoint in endpoints.items()
        },
        "components": {"schemas": requests | SCHEMAS},
    }


def _operation(endpoint: Endpoint, method: str, examples: dict[str, Any]) -> dict[str, Any]:
    is_head = method == "HEAD"
    operation: dict[str, Any] = {
        "operationId": endpoint.name + ("_head" if is_head else ""),
        "summary": endpoint.summary + (" The headers alone." if is_head else ""),
    }
    if endpoint.takes:
        content = {"schema": _ref(endpoint.takes), "example": examples[endpoint.takes]}
        operation["parameters"] = _PARAMETERS
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    if endpoint.answers in SCHEMAS:
        answered = {"application/json": {"schema": _ref(endpoint.answers)}}
    else:
        answered = {endpoint.answers: {"schema": {"type": "string"}}}
    meanings: dict[int, list[str]] = {}
    for kind in endpoint.raises:
        meanings.setdefault(REFUSALS[kind].status, []).append(REFUSALS[kind].meaning)
    meanings[500] = ["An error of the server; its log has the traceback under `request_id`."]
    errors: dict[str, list[str]] = {str(status): meanings[status] for status in sorted(meanings)}
    errors["default"] = ["Any other error, such as 408 for a body that does not come in time."]
    failed = {"application/json": {"schema": _ref("Error")}}
    bodies = ({}, {}) if is_head else ({"content": answered}, {"content": failed})
    operation["responses"] = {"200": {"description": "The answer."} | bodies[0]}
    for status, texts in errors.items():
        operation["responses"][status] = {"description": " ".join(texts)} | _headers(status) | bodies[1]
    return operation


def _headers(status: str) -> dict[str, Any]:
    known = {
        "503": {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}},
        "415": {"Accept-Encoding": {"description": "What is read.", "schema": {"type": "string"}}},
    }
    return {"headers": known[status]} if status in known else {}
