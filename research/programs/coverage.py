"""Simulate how often the 95 % intervals of `run_comparison.py` contain the truth.

A simulated study has normal AUC of runs, and normal influences of the test users. A run has the noise of its seed, and
a deviation for each user, of which a part is shared by the runs of its model. `seeds / users` is the noise of the seed
in multiples of the noise of the test users: standard deviations of the AUC of one run. With folds, each run has its own
test users, and some folds are harder for both models. The rows `scores` draw labels and scores instead.

A cell is the share of studies whose interval contains the truth; a refused interval ("not enough seeds") stands for all
values, and contains it. The second table is the mean width without refused intervals, in multiples of 2 x 1.96 standard
deviations of the quantity.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import owens_t
from tqdm import tqdm

from benchmarks.report import Row, publish
from dien_fuxictr.studies.comparison.statistics import Interval, Scored, mean_auc, paired_difference, score_runs

RUNS = (2, 3, 5, 10)
USERS = 200
AUC = 0.75
ONE_RUN = 0.0002
"""Standard deviation of the AUC of a run by its test users."""
SHARED = 0.8
"""Share of the variance between users that the runs of a model have in common."""
SEEDS = (0, 0.5, 1, 2, 8)


@dataclass(frozen=True)
class Study:
    """Simulated studies.

    Attributes:
        seeds: standard deviation of a run's AUC by its seed, in multiples of that by the test users.
        base_seeds: the standard deviation for the base.
        shared: see `SHARED`.
    """

    seeds: float
    base_seeds: float
    shared: float = SHARED

    def difference(self, runs: int, rng: np.random.Generator) -> Interval | None:
        """Compare two models of equal quality."""
        return paired_difference(*(self._of_model(seeds, runs, rng) for seeds in (self.base_seeds, self.seeds)))

    def mean(self, runs: int, rng: np.random.Generator) -> Interval:
        """Take the mean of a model, minus the truth."""
        return mean_auc(self._of_model(self.seeds, runs, rng))

    def on_folds(self, runs: int, rng: np.random.Generator) -> Interval | None:
        """Compare two models of equal quality on folds."""
        hard = ONE_RUN * rng.normal(size=runs)
        models = []
        for seeds in (self.base_seeds, self.seeds):
            luck = rng.normal(0, ONE_RUN / USERS**0.5, (runs, USERS))
            auc = AUC + hard + ONE_RUN * seeds * rng.normal(size=runs) + luck.sum(axis=1)
            models.append(Scored(auc, tuple(luck - luck.mean(axis=1, keepdims=True)), tuple(range(runs))))
        return paired_difference(*models)

    def of_scores(self, runs: int, rng: np.random.Generator) -> Interval | None:
        """Compare two models of equal quality by scores of two rows per user.

        One of the rows is a click.
        """
        margin, deviation = _margin_of_scores()
        label, user = np.tile([1, 0], USERS), np.repeat(np.arange(USERS), 2)
        models = []
        for seeds in (self.base_seeds, self.seeds):
            luck = self.shared**0.5 * rng.normal(size=2 * USERS)
            quality = margin + seeds * deviation * rng.normal(size=(runs, 1))
            scores = label * quality + luck + (1 - self.shared) ** 0.5 * rng.normal(size=(runs, 2 * USERS))
            models.append(score_runs([{"label": label, "group": user, "score": score} for score in scores]))
        return paired_difference(*models)

    def _of_model(self, seeds: float, runs: int, rng: np.random.Generator) -> Scored:
        luck = self.shared**0.5 * rng.normal(size=USERS) + (1 - self.shared) ** 0.5 * rng.normal(size=(runs, USERS))
        luck *= ONE_RUN / USERS**0.5
        auc = AUC + ONE_RUN * seeds * rng.normal(size=runs) + luck.sum(axis=1)
        return Scored(auc, tuple(luck - luck.mean(axis=1, keepdims=True)), (0,) * runs)


@cache
def _margin_of_scores() -> tuple[float, float]:
    """Return the mean advantage of clicks' scores for `AUC`, and a deviation of it.

    The deviation gives as much noise as the test users.
    """
    normal = float(stats.norm.ppf(AUC))
    both = AUC - 2 * float(owens_t(normal, 3**-0.5))  # probability that a click is above two other rows
    by_users = (2 * (both - AUC**2) / USERS) ** 0.5
    return 2**0.5 * normal, 2**0.5 * by_users / float(stats.norm.pdf(normal))


Simulated = Callable[[int, np.random.Generator], Interval | None]
CASES: dict[str, tuple[Callable[[float], Simulated], float, Sequence[float]]] = {
    "difference": (lambda seeds: Study(seeds, seeds).difference, 0, SEEDS),
    "difference, the base has no noise of seeds": (lambda seeds: Study(seeds, 0).difference, 0, SEEDS[1:]),
    "difference, users' luck is each run's own": (lambda seeds: Study(seeds, seeds, shared=0).difference, 0, SEEDS),
    "difference, users' luck is all shared": (lambda seeds: Study(seeds, seeds, shared=1).difference, 0, SEEDS),
    "difference on folds": (lambda seeds: Study(seeds, seeds).on_folds, 0, SEEDS),
    "mean": (lambda seeds: Study(seeds, seeds).mean, AUC, SEEDS),
    "difference, scores": (lambda seeds: Study(seeds, seeds).of_scores, 0, (0, 1)),
}
"""Simulated case -> a study by the noise of its seeds; the truth; noises of seeds."""


@dataclass(frozen=True)
class Outcome:
    """Results of many studies.

    Attributes:
        coverage: share of studies whose interval contains the truth.
        width: see the module.
        refused: share of studies without an interval.
    """

    coverage: float
    width: float
    refused: float


def simulate(study: Simulated, truth: float, runs: int, studies: int, seed: int) -> Outcome:
    """Simulate studies and compare their intervals with the truth.

    Args:
        study: simulates one study.
        truth: value that its interval should contain.
        runs: number of runs of each model.
        studies: number of studies.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    held, half_widths, means = [], [], []
    for _ in range(studies):
        found = study(runs, rng)
        assert found, "both models are on the same rows"
        means.append(found.mean)
        if found.low is None or found.high is None:
            held.append(True)
        else:
            held.append(found.low <= truth <= found.high)
            half_widths.append((found.high - found.low) / 2)
    spread = 1.96 * float(np.std(means))
    width = float(np.mean(half_widths)) / spread if half_widths and spread else float("nan")
    return Outcome(float(np.mean(held)), width, 1 - len(half_widths) / studies)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--studies", type=int, default=2000, metavar="N", help="number of simulated studies per cell; default 2000"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the simulation; default 0")
    parser.add_argument(
        "--runs",
        type=int,
        nargs="+",
        default=list(RUNS),
        metavar="N",
        help="numbers of runs per model; default 2 3 5 10",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.studies < 1 or min(options.runs) < 2:
        parser.error("--studies must be 1 or more, --runs 2 or more")
    cells = [(case, seeds, runs) for case in CASES for seeds in CASES[case][2] for runs in options.runs]
    outcomes = {}
    for case, seeds, runs in tqdm(cells, unit="cell", file=sys.stderr, disable=None):
        make, truth, _ = CASES[case]
        outcomes[case, seeds, runs] = simulate(make(seeds), truth, runs, options.studies, options.seed)

    def table(shown: Callable[[Outcome], float | str]) -> list[Row]:
        return [
            {"interval of": case, "seeds / users": seeds}
            | {f"{runs} runs": shown(outcomes[case, seeds, runs]) for runs in options.runs}
            for case in CASES
            for seeds in CASES[case][2]
        ]

    error = (0.95 * 0.05 / options.studies) ** 0.5
    publish(
        "research.programs.coverage",
        {
            "Coverage": table(lambda found: f"{found.coverage:.3f}"),
            "Width": table(lambda found: f"{found.width:.2f}"),
        },
        [
            f"{options.studies:,} studies per cell: the standard error of a coverage of .95 is {error:.4f}",
            f"intervals refused as too wide: at most {max(found.refused for found in outcomes.values()):.1%} of a cell",
        ],
        options.json,
        arguments=arguments,
    )


if __name__ == "__main__":
    main()
