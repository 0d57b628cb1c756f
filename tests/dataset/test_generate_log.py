"""Synthetic log: each parameter does what the module says."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from dien_fuxictr.dataset.generate_log import CATEGORIES, HISTORY_DAYS, PLACES, START, World, generate, main
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.build_samples import build_samples
from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.samples import Samples

BUILD = {
    "source": "log",
    "user": "user",
    "item": "item",
    "category": "category",
    "time": "time",
    "label": "click",
    "request": "request",
    "target": "target",
    "side": ["shop", "brand", "price"],
    "protocol": "window",
    "target_days": 51,
}


def clicks(**world) -> np.ndarray:
    """Return the categories that 400 users clicked, (users, clicks)."""
    log = generate(1, World(users=400, **world))
    return log.filter(pl.col("click") == 1)["category"].cast(pl.Int64).to_numpy().reshape(400, -1)


def oracles(**world) -> tuple[float, float]:
    """Return the AUC of rules that know the order and the set of earlier clicks.

    Later requests are ranked. Both rules count how many of the last 10 clicks are of the candidate's topic. The first
    adds a larger amount if the last click of this topic is one place before the candidate, the second adds the clicks
    of its category.
    """
    log = generate(1, World(users=400, **world))
    shown = log["category"].cast(pl.Int64).to_numpy().reshape(400, -1, 2)  # clicked, not clicked
    before = shown[:, -30:-1, 0]
    ordered, blind, label = [], [], []
    for step in range(10, before.shape[1]):
        recent = before[:, step - 10 : step]
        for which in range(2):
            candidate = shown[:, -30 + step, which]
            of_topic = recent // PLACES == candidate[:, None] // PLACES
            latest = 9 - of_topic[:, ::-1].argmax(axis=1)
            follows = (recent[np.arange(400), latest] + 1) % PLACES == candidate % PLACES
            count = of_topic.sum(axis=1)
            ordered.append(count + 20 * (of_topic.any(axis=1) & follows))
            blind.append(count + (recent == candidate[:, None]).sum(axis=1) / 20)
            label.append(np.full(400, 1 - which))
    labels = np.concatenate(label)
    return roc_auc_score(labels, np.concatenate(ordered)), roc_auc_score(labels, np.concatenate(blind))


def test_evolution_is_what_the_order_tells() -> None:
    ordered, blind = oracles(evolution=1)
    assert ordered > blind + 0.08
    ordered, blind = oracles(evolution=0)
    assert ordered < blind
    gains = [ordered - blind for ordered, blind in (oracles(evolution=share) for share in (0, 0.5, 1))]
    assert gains == sorted(gains)


def test_drift_moves_interests() -> None:
    def kept(drift: float) -> float:
        """Share of users whose late clicks are of a topic of their early ones."""
        topics = clicks(drift=drift, noise=0) // PLACES
        return float(np.mean([bool(set(row[:10]) & set(row[-10:])) for row in topics]))

    assert kept(0) > 0.9 > kept(0.02) + 0.2 > kept(0.05) + 0.3
    scores = [oracles(drift=drift) for drift in (0, 0.2, 1)]
    for rule in zip(*scores, strict=True):
        assert sorted(rule, reverse=True) == list(rule) and rule[0] > rule[2] + 0.08


def test_noise_is_clicks_on_anything() -> None:
    def topics_a_user(noise: float) -> float:
        return float(np.mean([len(set(row)) for row in clicks(drift=0, noise=noise) // PLACES]))

    assert topics_a_user(0) <= 2 < topics_a_user(0.05) < topics_a_user(0.5)
    ordered, blind = oracles(noise=1)
    assert abs(ordered - 0.5) < 0.03 and abs(blind - 0.5) < 0.03


def test_exposures_are_requests_before_the_last_days() -> None:
    """Those of fewer are among those of more, and nothing else of the log changes."""
    logs = {exposures: generate(1, World(users=50, exposures=exposures)) for exposures in (1, 4, 80)}
    day = (logs[1]["time"] - START) // DAY
    chosen = {}
    for exposures, log in logs.items():
        assert log.drop("target").equals(logs[1].drop("target"))
        assert not log.filter(day < HISTORY_DAYS)["target"].max() and log.filter(day >= 63)["target"].min()
        train = log.filter((day >= HISTORY_DAYS) & (day < 63))
        chosen[exposures] = set(train.filter(pl.col("target") == 1)["request"])
        of_user = train.filter(pl.col("target") == 1).group_by("user").agg(pl.col("request").n_unique())["request"]
        assert of_user.max() == exposures or exposures == 80
        assert exposures != 80 or train["target"].min()
    assert len(chosen[1]) == 50 and chosen[1] < chosen[4] < chosen[80]


def test_a_request_shows_a_click_and_another_item() -> None:
    log = generate(1, World(users=50))
    requests = log.group_by("request").agg(pl.col("click").sum(), pl.col("item").n_unique(), pl.col("user").n_unique())
    assert requests.drop("request").unique().rows() == [(1, 2, 1)]
    for name in ("category", "shop", "brand", "price"):
        assert log.group_by("item").agg(pl.col(name).n_unique())[name].max() == 1
    assert log["category"].n_unique() == CATEGORIES and log["price"].n_unique() == 5


def test_the_log_builds_and_passes_the_audit(tmp_path: Path) -> None:
    main(["--users", "150", "--exposures", "5", "--out", str(tmp_path / "log.parquet")])
    main(["--users", "150", "--exposures", "5", "--out", str(tmp_path / "again.parquet")])
    assert (tmp_path / "log.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    assert not generate(7, World(users=5)).equals(generate(8, World(users=5)))
    options = BuildOptions.of({**BUILD, "input": str(tmp_path / "log.parquet")})
    build_samples(options, tmp_path / "out", verbose=False)
    samples = Samples.load(tmp_path / "out")
    assert samples.info["audit"]["warnings"] == []
    assert samples.info["audit"]["untrained"]["category seen in history"] > 0.55
    train = samples.splits["train"]
    assert 150 * 4 < train.filter(pl.col("label") == 1).height <= 150 * 5
    assert train["history_length"].mean() > 10 and train["history_length"].max() <= 50
    assert (samples.behaviours["neg_item_history"] != "").all()


def test_a_series_is_a_log_for_each_value(tmp_path: Path) -> None:
    main(["--users", "20", "30", "--noise", "0", "0.25", "--out", str(tmp_path / "log.parquet")])
    names = ["log_users_20_noise_0", "log_users_20_noise_0.25", "log_users_30_noise_0", "log_users_30_noise_0.25"]
    assert sorted(file.stem for file in tmp_path.iterdir()) == names
    log = pl.read_parquet(tmp_path / "log_users_30_noise_0.25.parquet")
    assert log.equals(generate(2019, World(users=30, noise=0.25)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evolution", "2"], "evolution = 2.0 must be from 0 to 1"),
        (["--items", "50"], "items = 50 must be 100 or more"),
        (["--exposures", "8", "0"], "exposures = 0 must be 1 or more"),
    ],
)
def test_wrong_parameters(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(tmp_path / "log.parquet")])
    assert caught.value.code == 2 and message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_log_does_not_overwrite_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "X.model"
    file.touch()
    with pytest.raises(SystemExit) as error:
        main(["--users", "5", "--out", str(file)])
    assert error.value.code == 2 and f"--out {file} is a checkpoint" in capsys.readouterr().err
    assert not file.stat().st_size
