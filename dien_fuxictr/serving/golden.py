"""Golden requests: a bundle stores their scores, which must be reproduced."""

from math import isnan
from typing import Any

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.online import FieldError

from .bundle import GOLDEN, MOST_SCORES, Bundle
from .examples import made_request, with_unknown_ids
from .request import CANDIDATES, Limits, RequestReader, Scorer, scorer_of

TOLERANCE = 1e-4
"""Largest allowed difference from a written score; another processor or backend rounds by about 1e-6."""
_NEARLY = 1e-5
_USERS, _CANDIDATES = 10, 200
"""Number of example users that are golden requests, and number of candidates each."""
_LIMITS = Limits(candidates=MOST_SCORES, behaviours=10**6)
"""Not those of the server, which may be smaller than a golden request."""


class Differs(UserError):
    """A score is not the written one.

    Attributes:
        difference: the largest one; nan where a score is not a number.
    """

    def __init__(self, message: str, difference: float) -> None:
        super().__init__(message)
        self.difference = difference


def golden_requests(bundle: Bundle, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return requests with their scores, as `golden.json` has them.

    They are example users or, without any, a made-up one, and two that are made up: without a history, and with unknown
    ids.

    Args:
        bundle: that is written, and scores them.
        examples: requests of users of the test set.

    Raises:
        UserError: an example is not a request to the model, or a score is not finite.
    """
    requests = [_cut(example) for example in examples[:_USERS]] or [made_request(bundle.encoder, 50, 100)]
    requests.append(made_request(bundle.encoder, 0, 3))
    requests.append(with_unknown_ids(bundle.encoder, made_request(bundle.encoder, 3, 3)))
    score, read = scorer_of(bundle.model), RequestReader(bundle, _LIMITS).read
    golden = []
    for number, request in enumerate(requests):
        try:
            scores = score(read(request))
        except FieldError as error:
            raise UserError(f"example {number} is not a valid request to {bundle.expid}: {error}") from error
        if not np.isfinite(scores).all():
            raise UserError(f"the scores of {bundle.expid} are not finite; train again")
        golden.append({"request": request, "scores": scores.tolist()})
    return golden


def is_nearly(golden: Any, other: list[dict[str, Any]]) -> bool:
    """Return whether two contents of `golden.json` have equal requests and scores.

    Scores may differ by 1e-5.

    Raises:
        TypeError, LookupError, ValueError: the content is wrong.
    """
    return [each["request"] for each in golden] == [each["request"] for each in other] and all(
        np.allclose(one["scores"], two["scores"], rtol=0, atol=_NEARLY) for one, two in zip(golden, other, strict=True)
    )


def check(bundle: Bundle) -> float | None:
    """Replay the golden requests of an opened bundle, like `replay`."""
    return replay(bundle, RequestReader(bundle, _LIMITS), scorer_of(bundle.model))


def replay(bundle: Bundle, reader: RequestReader, score: Scorer) -> float | None:
    """Score the golden requests of a bundle.

    Args:
        bundle: may have none.
        reader: reader of the bundle; its limits do not count.
        score: scorer of the bundle's model.

    Returns:
        Largest difference from a written score; None without golden requests.

    Raises:
        UserError: a golden request is not a request to the model, or differs from its scores in length.
        Differs: a score differs by more than `TOLERANCE`.
    """
    read = reader.within(_LIMITS).read
    worst, message = -1.0, ""
    for number, golden in enumerate(bundle.golden):
        name = f"bundle {bundle.folder}: request {number} of its {GOLDEN}"
        try:
            scores = score(read(golden["request"]))
        except FieldError as error:
            raise UserError(f"{name}: {error}") from error
        written = np.array(golden["scores"], dtype=np.float64)
        if len(scores) != len(written):
            raise UserError(f"{name} has {len(scores)} candidates and {len(written)} scores")
        if not len(scores):
            continue
        differences = np.abs(scores - written)
        place = int(differences.argmax())  # of nan, if there is one
        if not (differences[place] <= worst or isnan(worst)):
            worst = float(differences[place])
            message = f"{name}: candidate {place} scores {scores[place]:.6g}, but {written[place]:.6g} was written"
    if not worst <= TOLERANCE:
        raise Differs(f"{message}; they may differ by {TOLERANCE:g}", worst)
    return worst if worst >= 0 else None


def _cut(request: dict[str, Any]) -> dict[str, Any]:
    candidates = {name: values[:_CANDIDATES] for name, values in request[CANDIDATES].items()}
    return {**request, CANDIDATES: candidates}
