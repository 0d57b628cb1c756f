"""Protocols: rows of a log that are predicted, their splits and their histories.

All functions work on the whole log at once. Its rows are sorted by user and time. An *event* is what happens to a user
at one moment: one behaviour or, in a log of exposures, one request with all exposures.
"""

import datetime as dt

import numpy as np

from dien_fuxictr.common.errors import UserError

from .build_options import BuildOptions

TRAIN, VALID, TEST, UNUSED = 0, 1, 2, 3
SPLITS = ("train", "valid", "test")
DAY = 86_400
VALID_SHARE = 0.1
"""Share of the users outside the test fold: with 10 folds, 81/9/10 as in the paper's data."""


def last(
    user: np.ndarray, event: np.ndarray, events: np.ndarray, folds: int, fold: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the splits of the paper's protocol: the last event of each user.

    Test users are in no other split. The users are shuffled and cut into `folds` parts. Part `fold` is for the test, a
    tenth of the other users for validation.

    Args:
        user: (N,) index of the row's user, from 0 without gaps.
        event: (N,) place of the row's event among its user's, from 0.
        events: (N,) number of its user's events.
        folds: number of parts.
        fold: part for the test, from 0.
        rng: random numbers for the order of users.
    """
    if not 0 <= fold < folds or folds < 2:
        raise UserError(f"fold {fold} of {folds} folds: there must be 2 folds or more, numbered from 0")
    users = int(user.max()) + 1
    place = np.empty(users, np.int64)
    place[rng.permutation(users)] = np.arange(users)
    first, end = users * fold // folds, users * (fold + 1) // folds
    place = (place - first) % users  # the test fold comes first
    test = end - first
    valid = test + round((users - test) * VALID_SHARE)
    of_user = np.where(place < test, TEST, np.where(place < valid, VALID, TRAIN))
    return np.where(event == events - 1, of_user[user], UNUSED)


def leave_one_out(event: np.ndarray, events: np.ndarray, test_last: int = 1) -> np.ndarray:
    """Return the splits of leave-one-out: last `test_last` events for the test.

    As many before them are for validation, and all earlier ones for training. The test has priority: a user with at
    most `test_last` events is only in the test.
    """
    from_end = events - 1 - event
    return np.array([TEST, VALID, TRAIN])[np.minimum(from_end // test_last, 2)]


def by_time(time: np.ndarray, valid_from: int, test_from: int) -> np.ndarray:
    """Return the splits by time.

    Events before `valid_from` are for training, later ones before `test_from` for validation, and the rest for the
    test. Both times are in seconds.
    """
    return np.where(time < valid_from, TRAIN, np.where(time < test_from, VALID, TEST))


def window(time: np.ndarray, target_days: int, valid_days: int, test_days: int) -> np.ndarray:
    """Return the splits of the paper's industrial setting.

    Samples are the events of the log's last `target_days` days (UTC). The last `test_days` of them are for the test,
    the `valid_days` before those for validation, the rest for training. (The paper trains on 49 days and tests on the
    next one, so with one day of validation its sizes are target_days = 51.)
    """
    if min(valid_days, test_days) < 1 or target_days <= valid_days + test_days:
        raise UserError(
            f"target_days {target_days} must exceed valid_days {valid_days} + test_days {test_days}, each 1 or more"
        )
    age = time.max() // DAY - time // DAY
    return np.select([age < test_days, age < test_days + valid_days, age < target_days], [TEST, VALID, TRAIN], UNUSED)


def history_ranges(
    first: np.ndarray, end: np.ndarray, earliest: np.ndarray, max_len: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the history of each row as a range of at most `max_len` behaviours.

    These are the most recent behaviours before the row.

    Args:
        first: (N,) the first behaviour of the row's user.
        end: (N,) one beyond the last behaviour that precedes the row.
        earliest: (N,) the first behaviour that is recent enough (`first` if any age is allowed).
        max_len: largest length.

    Returns:
        start and length, (N,) each.
    """
    start = np.minimum(np.maximum.reduce([first, earliest, end - max_len]), end)
    return start, end - start


def empty_split(split: str, users: int, rows: int, span: tuple[int, int], options: BuildOptions) -> UserError:
    """Return the error for a split without samples.

    Args:
        split: train | valid | test.
        users: number of users of the log.
        rows: number of rows of the log.
        span: first and last time of the log, in seconds.
        options: options of the build.
    """
    if options.protocol != "time":
        return UserError(
            f"the {split} split is empty: {users} users and {rows} rows are too few for protocol {options.protocol} "
            "with these options"
        )
    valid, test = f"valid_from = {options.valid_from}", f"test_from = {options.test_from}"
    where = {"train": f"before {valid}", "valid": f"from {valid} until {test}", "test": f"from {test} on"}
    begin, end = (np.datetime64(time, "s") for time in span)
    return UserError(
        f"the {split} split is empty: no row {where[split]} is a sample; the log has times from {begin} to {end}"
    )


def cut_offs(options: BuildOptions) -> tuple[int, int]:
    """Return the first times of validation and of the test, in seconds.

    Raises:
        UserError: a value is not a time, or they are not in this order.
    """
    valid_from, test_from = (parse_time(getattr(options, name), name) for name in ("valid_from", "test_from"))
    if valid_from >= test_from:
        raise UserError(f"valid_from = {options.valid_from} must be before test_from = {options.test_from}")
    return valid_from, test_from


def parse_time(value: str | int | dt.date, option: str) -> int:
    """Return a point in time, given in seconds or as an ISO date (UTC), in seconds."""
    text = str(value)
    try:
        if text.lstrip("-").isdigit() and len(text) != 8:  # 8 digits are a date such as 20140131
            return int(text)
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{option} = {value!r} must be a date such as 2014-01-31 or seconds") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp())
