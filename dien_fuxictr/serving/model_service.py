"""One version of a model in a server: bundle, reader of requests, and scorer."""

import logging
import time
from typing import Any

import numpy as np
import orjson

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.dataset.encoding.reading import source_of

from .bundle import EXAMPLES, GOLDEN, Bundle, fitting
from .examples import made_request
from .explain import MOST, explain
from .golden import replay
from .queueing import Steps
from .request import CANDIDATES, Limits, RequestReader, TooMany, scorer_of
from .server_metrics import Metrics

BATCH = "requests"
_WARM_UP = ((0, 1), (1, 2), (20, 50), (100, 200))
"""Behaviours and candidates."""


class Malformed(ValueError):
    """Body that is not JSON."""


class ModelService:
    """Answers the bodies of requests; warmed up when it is made.

    Args:
        bundle: the model.
        limits: limits of one request; those of candidates are of all users of a batch together.
        metrics: count what is done.

    Attributes:
        limits: limits of one request.
        example: a valid request.
        digest: digest of the bundle.
        expid: the experiment id.
        written: when the bundle was, in seconds since 1970.
        golden: the largest difference of a score from a golden one; None where the bundle has no golden requests.

    Raises:
        UserError: a part of the bundle does not fit, scores are not finite, or are not those of golden requests.
    """

    def __init__(self, bundle: Bundle, limits: Limits, metrics: Metrics) -> None:
        self._bundle, self.limits, self._metrics = bundle, limits, metrics
        with fitting(f"of model {bundle.digest}"):
            self._reader, self._score = RequestReader(bundle, limits), scorer_of(bundle.model)
            for behaviours, candidates in _WARM_UP:
                sizes = min(behaviours, limits.behaviours), min(candidates, limits.candidates)
                scores = self._score(self._reader.read(made_request(bundle.encoder, *sizes)))
                if not np.isfinite(scores).all():
                    raise UserError(f"bundle {bundle.folder}: the scores of its model are not finite; train again")
            self.golden = replay(bundle, self._reader, self._score)
        if self.golden is None:
            logging.warning(
                f"bundle {bundle.folder} has no {GOLDEN}: its scores cannot be checked; --publish writes it again"
            )
        self.example = self._working_example()
        self.digest, self.expid = bundle.digest, bundle.expid
        self.written = bundle.manifest.written

    def request_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a request."""
        return self._reader.schema()

    def require_fields_of(self, earlier: "ModelService") -> None:
        """Check that requests to an earlier version are requests to this one.

        Raises:
            UserError: a field is missing, new, of another type, or may not be left out any more.
        """
        old, new = earlier._reader.fields(), self._reader.fields()
        optional, still = earlier._bundle.catalogue.fields.keys(), self._bundle.catalogue.fields.keys()
        differences = [
            f"{name} is {new.get(name, 'not there')}, was {old.get(name, 'not there')}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        differences += [f"{name} is required now" for name in sorted(optional & new.keys() - still)]
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise UserError(
                f"bundle {self._bundle.folder}: its requests have other fields: {'; '.join(differences[:3])}{more}; "
                "clients would get 422; --allow-new-fields accepts it"
            )

    def answer_one(self, body: bytes, unknown: bool = True) -> bytes:
        """Return the scores of one user's candidates; see `answer_batch`."""
        request = self._json(body)
        with self._metrics.stage("encode"):
            inputs = self._reader.read(request)
            more = {"unknown": self._reader.unknown_fields(request, inputs)} if unknown else {}
        with self._metrics.stage("model"):
            scores = self._score(inputs)
        self._metrics.scored(inputs)
        return self._with_digest(scores, **more)

    def answer_batch(self, body: bytes, unknown: bool = True) -> Steps:
        """Return the scores of several users' candidates, in one step per user.

        Args:
            body: JSON.
            unknown: whether to include the result of `RequestReader.unknown_fields`.

        Raises:
            Malformed: the body is not JSON.
            FieldError: its content is wrong.
        """
        batch = self._json(body)
        if not isinstance(batch, dict) or batch.keys() != {BATCH} or not isinstance(batch[BATCH], list):
            raise FieldError("batch", f"must be an object that has {BATCH}, a list of requests, and nothing else")
        requests = batch[BATCH]
        if len(requests) > self.limits.users:
            raise TooMany(BATCH, f"must have at most {self.limits.users} users, has {len(requests)}")
        seconds = dict.fromkeys(("encode", "model"), 0.0)
        inputs, total, of_each = [], 0, []
        for number, request in enumerate(requests):
            start = time.perf_counter()
            try:
                inputs.append(self._reader.read(request))
            except FieldError as error:
                raise FieldError(f"{BATCH}[{number}].{error.field}", error.problem) from error
            total += inputs[-1].count
            if total > self.limits.candidates:
                raise FieldError(
                    BATCH, f"must have at most {self.limits.candidates} candidates together, have {total} or more"
                )
            if unknown:
                of_each.append(self._reader.unknown_fields(request, inputs[-1]))
            seconds["encode"] += time.perf_counter() - start
            yield
        scores = []
        for each in inputs:
            start = time.perf_counter()
            scores.append(self._score(each))
            seconds["model"] += time.perf_counter() - start
            yield
        for stage, took in seconds.items():
            self._metrics.took(stage, took)
        for each in inputs:
            self._metrics.scored(each)
        return self._with_digest(scores, **({"unknown": of_each} if unknown else {}))

    def answer_explained(self, body: bytes, unknown: bool = True) -> bytes:
        """Return the scores of one user's candidates and their explanation.

        See `answer_batch`.
        """
        request = self._json(body)
        inputs = self._reader.read(request)
        if not 0 < inputs.count <= MOST:
            raise FieldError(CANDIDATES, f"must be 1 to {MOST} for an explanation, are {inputs.count}")
        with self._metrics.stage("explain"):
            sequences = explain(self._bundle, inputs, self._reader.places(request))
        more = {"unknown": self._reader.unknown_fields(request, inputs)} if unknown else {}
        return self._with_digest(self._score(inputs), **more, sequences=sequences)

    def examples(self) -> bytes:
        """Return the bundle's example users, item titles, and fields of an item."""
        bundle, scalars = self._bundle, self._reader.online.scalars
        of_items = [
            name for field, (item, _) in bundle.catalogue.fields.items() if field in scalars for name in (item, field)
        ]
        return orjson.dumps(
            {
                "model": self.digest,
                "examples": bundle.examples,
                "titles": bundle.titles,
                "item_fields": list(dict.fromkeys(of_items)),
            }
        )

    def describe(self) -> bytes:
        """Return what is served, with a valid example request."""
        bundle = self._bundle
        features = [
            {"name": source_of(column), "is": column["type"], "values": column["dtype"], "in": _places(column)}
            | {key: column[key] for key in ("max_len", "padding") if key in column and column["type"] == "sequence"}
            for column in bundle.encoder.columns
        ]
        return orjson.dumps(
            {
                "model": bundle.digest,
                "expid": bundle.expid,
                "metrics": bundle.metrics,
                "trained": bundle.trained or None,
                "versions": bundle.versions,
                "features": features,
                "limits": vars(self.limits),
                "example": self.example,
            }
        )

    def _working_example(self) -> dict[str, Any]:
        """Return a test user's request within the limits, else a generated one.

        Raises:
            UserError: an example of the bundle is not a valid request.
        """
        working = []
        for number, example in enumerate(self._bundle.examples):
            try:
                self._reader.read(example)
                working.append(example)
            except TooMany:
                continue
            except FieldError as error:
                raise UserError(f"model {self._bundle.digest}: request {number} of its {EXAMPLES}: {error}") from error
        made = made_request(self._bundle.encoder, min(3, self.limits.behaviours), min(2, self.limits.candidates))
        return next(iter(working), made)

    def _json(self, body: bytes) -> Any:
        try:
            with self._metrics.stage("decode"):
                return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Malformed(f"the body is not JSON: {error}") from error

    def _with_digest(self, scores: Any, **more: Any) -> bytes:
        return orjson.dumps({"model": self.digest, "scores": scores, **more}, option=orjson.OPT_SERIALIZE_NUMPY)


def _places(column: dict) -> str:
    return "user" if column["type"] == "sequence" else "candidates or user"
