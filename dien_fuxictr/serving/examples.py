"""Valid example requests: of test users, or generated from the vocabularies."""

import logging
from copy import deepcopy
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.raw import RawHistory, RawSplit
from dien_fuxictr.dataset.encoding.reading import SplitReader, source_of
from dien_fuxictr.dataset.item_names import shortened, titles_of
from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.experiment.experiment import Experiment

from .log import shows_progress
from .request import CANDIDATES, USER

_TITLE = 80
"""Longest title, in characters."""
_RESERVED = ("", "__PAD__", "__OOV__")


def made_request(encoder: Encoder, behaviours: int, candidates: int) -> dict[str, Any]:
    """Return a request of known tokens, without meaning.

    Args:
        encoder: encoder of the model.
        behaviours: number of behaviours.
        candidates: number of candidates.
    """
    request: dict[str, Any] = {USER: {}, CANDIDATES: {}}
    for column in encoder.columns:
        field, kind = source_of(column), column["type"]
        if kind == "meta":
            continue
        if kind == "sequence":
            request[USER][field] = list(islice(cycle(_tokens(encoder, column)), behaviours))
        elif "vocabulary" in column:
            request[CANDIDATES][field] = list(islice(cycle(_tokens(encoder, column)), candidates))
        elif kind == "numeric":
            request[CANDIDATES][field] = [0] * candidates
        elif kind == "embedding":
            request[CANDIDATES][field] = [[0.0] * column["pretrain_dim"]] * candidates
    return request


def _tokens(encoder: Encoder, column: dict) -> list:
    not_taken = (*_RESERVED, column.get("fill_na"))
    known = (token for token in encoder.vocabularies[column["vocabulary"]] if token not in not_taken)
    return list(islice(known, 100)) or [None]


def with_unknown_ids(encoder: Encoder, request: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a request with unknown ids in first behaviour and candidate."""
    changed = deepcopy(request)
    for column in encoder.columns:
        if "vocabulary" in column and column["type"] != "meta":
            values = changed[USER if column["type"] == "sequence" else CANDIDATES][source_of(column)]
            is_text = column["type"] == "sequence" or column["dtype"] == "str"
            known = encoder.vocabularies[column["vocabulary"]]
            numbers = (f"unknown-{number}" if is_text else number for number in count(1))
            values[:1] = [next(value for value in numbers if value not in known)]
    return changed


def users_of_test(experiment: Experiment, count: int) -> list[dict[str, Any]]:
    """Return raw requests of the first users of the test data.

    Each has the candidates of all rows of the user with one history. The list is empty, with a warning in the log, if
    the raw test data no longer exist.

    Args:
        experiment: experiment whose data set is built in-process.
        count: largest number of requests.

    Raises:
        UserError: the data set has no fitted encoder.
    """
    params = experiment.params
    data_dir = Path(params["data_root"], params["dataset_id"])
    encoder, form = Encoder.load(data_dir, params), params["data_format"]
    made = data_dir / "samples" / f"test.{form}"
    file = made if made.is_file() else params.get("test_data")
    if not count or not file:
        return []
    user = params.get("group_id") or "user_id"
    columns = [column for column in encoder.columns if column["type"] != "meta" or column["name"] == user]
    try:
        raw = SplitReader(columns, [], params.get("sep", ",")).read(file, form, {user})
    except UserError as error:
        logging.warning(f"the bundle has no example users: {error}")
        return []
    return _requests(columns, raw, user, count)


def titles_in(examples: list[dict[str, Any]], entry: DatasetEntry) -> dict[str, str]:
    """Return item -> title, for items of the examples with a title in raw metadata.

    The result is empty if the metadata no longer exist.

    Args:
        examples: requests.
        entry: entry of the data set, which names the metadata.

    Raises:
        UserError: the metadata are broken.
    """
    lists = (values for request in examples for part in request.values() for values in part.values())
    items = {value for values in lists if values for value in values if isinstance(value, str)}
    if not items:
        return {}
    titles = titles_of(entry.options, items, shows_progress() and entry.verbose > 0)
    return {item: shortened(title, _TITLE) for item, title in sorted(titles.items())}


def _requests(columns: list[dict], raw: RawSplit, user: str, count: int) -> list[dict[str, Any]]:
    field_of = {column["name"]: source_of(column) for column in columns}
    owner = raw.frame[user] if user in raw.frame.columns else pl.Series(range(len(raw)))
    scalars = {field_of[name]: raw.frame[name] for name in raw.frame.columns if name != user}
    groups: dict[Any, list[int]] = {}
    for row in owner.is_in(owner.unique(maintain_order=True).head(count).implode()).arg_true().to_list():
        histories = tuple(tuple(_words(history, row)) for history in raw.histories.values())
        groups.setdefault((owner[row], histories), []).append(row)
    return [
        {
            USER: {field_of[name]: list(words) for name, words in zip(raw.histories, histories, strict=True)},
            CANDIDATES: {field: values.gather(rows).to_list() for field, values in scalars.items()},
        }
        for (_, histories), rows in islice(groups.items(), count)
    ]


def _words(history: RawHistory, row: int) -> list[str]:
    if history.blank[row]:
        return []
    codes = history.tokens.codes[history.start[row] : history.start[row] + history.length[row]]
    return history.tokens.words.gather(codes).to_list()
