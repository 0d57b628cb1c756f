"""How many of a user's training events become training rows: the option `targets_per_user` of protocol leave_one_out.

All else must not depend on it, or a curve over it shows something else. The rows that it leaves out are therefore kept
beside the others, for the vocabularies and the catalogue of behaviours; and where matched negatives are permuted, they
are so within strata of the events' ranks, 1, 2, 3 to 4, 5 to 8 and so on. A row that two numbers of targets share then
has the same negative in both, and where that number is a power of two the items of the rows that stay are still matched
exactly. Permuted over all rows, they would not be: the latest behaviours are of later items than the others.
"""

import numpy as np


def ranks(event: np.ndarray, events: np.ndarray, test_last: int) -> np.ndarray:
    """Place of each training event of leave_one_out among its user's, the latest first, from 1.

    Args:
        event: (N,) place of the row's event among all of its user's, from 0.
        events: (N,) number of its user's events.
        test_last: so many events are for the test, and as many for validation.
    """
    return events - event - 2 * test_last


def strata(rank: np.ndarray, targets: int) -> np.ndarray:
    """The stratum of each training row, from 0; ranks beyond that of `targets` share one."""
    return np.ceil(np.log2(np.minimum(rank, 2 * min(targets, int(rank.max()))))).astype(np.int64)
