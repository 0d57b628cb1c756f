"""A bundle stores golden scores, and is not served if they differ."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bundles import all_nan, edited, other_bundle, with_nan, without_golden
from made_rows import requests_of

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving import write
from dien_fuxictr.serving.bundle import GOLDEN, Bundle, open_bundle
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.examples import users_of_test
from dien_fuxictr.serving.golden import TOLERANCE, check
from dien_fuxictr.serving.manifest import read_manifest, write_manifest
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.server_metrics import Metrics
from dien_fuxictr.serving.write import write_bundle


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def served(folder: Path, limits: Limits | None = None) -> ModelService:
    return ModelService(open_bundle(folder), limits or Limits(), Metrics())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def moved(candidate: int, by: float) -> Callable[[Any], None]:
    """Another score of a candidate of the second golden request."""

    def change(golden: Any) -> None:
        golden[1]["scores"][candidate] += by

    return change


@pytest.mark.parametrize("expid", ["DIEN_amazon", "WideDeep_amazon", "DIENLight_amazon"])
def test_golden_requests_are_examples_and_two_generated(expid: str, project: Path, tmp_path: Path) -> None:
    experiment = open_experiment(expid)
    examples = users_of_test(experiment, 12)
    write_bundle(experiment, tmp_path / "b", examples)
    bundle = open_bundle(tmp_path / "b")
    requests = [golden["request"] for golden in bundle.golden]
    assert requests[:-2] == examples[:10]
    reader, score = RequestReader(bundle, Limits()), scorer_of(bundle.model)
    *_, empty, unknown = map(reader.read, requests)
    assert requests[-2]["user"]["item_history"] == [] and empty.unknown == {name: 0 for name in empty.unknown}
    assert unknown.unknown == {"item_id": 1, "cate_id": 1, "item_history": 1, "cate_history": 1}
    for golden in bundle.golden:
        assert golden["scores"] == score(reader.read(golden["request"])).tolist()
    assert check(bundle) == served(tmp_path / "b").golden == 0


def test_those_of_a_test_user_are_the_scores_of_predict(experiment: Experiment, project: Path, tmp_path: Path) -> None:
    samples = project / "data" / "amazon" / "samples"
    scores = iter(experiment.predict(samples / "test.parquet").tolist())
    predicted = {
        (str(request["user"]), item): next(scores)
        for request in requests_of(samples)
        for item in request["candidates"]["item_id"]
    }
    write_bundle(experiment, tmp_path / "b", users_of_test(experiment, 5))
    for golden in open_bundle(tmp_path / "b").golden[:5]:
        user, items = golden["request"]["user"], golden["request"]["candidates"]["item_id"]
        assert golden["scores"] == pytest.approx([predicted[str(user), item] for item in items], abs=1e-5)


def test_without_examples_there_is_no_users_history(copy: Path, experiment: Experiment) -> None:
    histories = {str(example["user"]["item_history"]) for example in users_of_test(experiment, 100)}
    golden = open_bundle(copy).golden
    assert len(golden) == 3 and len(golden[0]["scores"]) == 100
    assert not histories & {str(each["request"]["user"]["item_history"]) for each in golden}


@pytest.mark.parametrize("by", [2e-4, -2e-4])
def test_another_score_is_refused(by: float, copy: Path, bundle_folder: Path) -> None:
    (_, written, _) = open_bundle(bundle_folder).golden
    edited(copy, GOLDEN, moved(2, by))
    score = written["scores"][2]
    message = (
        f"bundle {copy}: request 1 of its golden.json: candidate 2 scores {score:.6g}, but {score + by:.6g} was "
        "written; they may differ by 0.0001"
    )
    for load in (served, lambda folder: check(open_bundle(folder))):
        with pytest.raises(UserError) as error:
            load(copy)
        assert str(error.value) == message


def test_a_score_within_the_tolerance_is_accepted(copy: Path) -> None:
    edited(copy, GOLDEN, moved(0, 0.9 * TOLERANCE))
    assert served(copy).golden == pytest.approx(0.9 * TOLERANCE, rel=1e-3)


def test_the_largest_difference_is_named(copy: Path) -> None:
    def change(golden: Any) -> None:
        golden[0]["scores"][7] += 0.01
        golden[2]["scores"][1] += 0.02

    edited(copy, GOLDEN, change)
    with pytest.raises(UserError, match=r"request 2 of its golden.json: candidate 1 scores"):
        served(copy)


def test_other_weights_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    other_bundle(bundle_folder, tmp_path / "b", 1, keeps_golden=True)
    with pytest.raises(UserError, match=r"golden.json: candidate \d+ scores 0\.\d+, but 0\.\d+ was written"):
        served(tmp_path / "b")


def test_nan_among_scores_is_refused(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    score = scorer_of(opened.model)

    def with_a_nan(inputs: Any) -> np.ndarray:
        scores = score(inputs).copy()
        scores[0] = np.nan if inputs.count == 100 else scores[0] + 1
        return scores

    monkeypatch.setattr("dien_fuxictr.serving.golden.scorer_of", lambda _: with_a_nan)
    with pytest.raises(UserError, match=r"request 0 of its golden.json: candidate 0 scores nan"):
        check(opened)


def test_limits_are_not_those_of_golden_requests(copy: Path) -> None:
    assert served(copy, Limits(candidates=2, behaviours=3)).golden == 0


def test_an_older_bundle_is_served_with_a_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    without_golden(copy)
    caplog.clear()
    assert served(copy).golden is None
    assert warnings(caplog) == [
        f"bundle {copy} has no golden.json: its scores cannot be checked; --publish writes it again"
    ]


@pytest.mark.parametrize("has_golden", [True, False])
def test_scores_that_are_not_finite_are_refused(has_golden: bool, copy: Path) -> None:
    if not has_golden:
        without_golden(copy)
    with_nan(copy)
    with pytest.raises(UserError, match=r"bundle .*copy: the scores of its model are not finite; train again"):
        served(copy)


def test_a_model_of_scores_that_are_not_finite_is_not_written(project: Path, tmp_path: Path) -> None:
    experiment = open_experiment("DIEN_amazon", overrides={"model_root": str(tmp_path)})
    experiment.folder.mkdir()
    weights = checkpoint.load(project / "checkpoints" / "amazon" / "DIEN_amazon.model")
    checkpoint.save(all_nan(weights), experiment.checkpoint)
    with pytest.raises(UserError, match=r"the scores of DIEN_amazon are not finite; train again"):
        write_bundle(experiment, tmp_path / "b", [])
    assert not (tmp_path / "b").exists()


def test_an_example_that_is_no_request_is_not_written(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"example 0 is not a valid request to DIEN_amazon: user.item_history: is"):
        write_bundle(experiment, tmp_path / "b", [{"user": {}, "candidates": {}}])
    assert not (tmp_path / "b").exists()


def test_scores_that_are_rounded_otherwise_leave_the_bundle(
    bundle: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otherwise(by: float) -> Callable[..., Any]:
        def requests(bundle: Bundle, examples: Any) -> Any:
            golden = golden_requests(bundle, examples)
            return [{**each, "scores": [score + by for score in each["scores"]]} for each in golden]

        return requests

    golden_requests = write.golden_requests
    digest = read_manifest(bundle).digest
    monkeypatch.setattr(write, "golden_requests", otherwise(1e-6))
    assert write_bundle(experiment, bundle, []) == digest
    monkeypatch.setattr(write, "golden_requests", otherwise(2e-5))
    assert write_bundle(experiment, bundle, []) != digest
    (bundle / GOLDEN).write_text("{")
    monkeypatch.setattr(write, "golden_requests", golden_requests)
    assert write_bundle(experiment, bundle, []) == digest


VALID = {"request": {"user": {"item_history": [], "cate_history": []}, "candidates": {"item_id": ["a"]}}, "scores": [1]}
NO_LIST = r"golden.json = .* in bundle .* must be a list of at most 100, each a mapping of request and scores: at most"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "golden.json is not JSON: "),
        ("{", "golden.json is not JSON: "),
        ("", "golden.json is not JSON: "),
        ('"text"', NO_LIST),
        ("{}", NO_LIST),
        ("null", NO_LIST),
        ("[1]", NO_LIST),
        (json.dumps([{**VALID, "scores": None}]), NO_LIST),
        (json.dumps([{**VALID, "scores": ["0.5"]}]), NO_LIST),
        (json.dumps([{**VALID, "scores": [[0.5]]}]), NO_LIST),
        (json.dumps([{**VALID, "scores": [None]}]), NO_LIST),
        (json.dumps([{**VALID, "scores": [True]}]), NO_LIST),
        (json.dumps([VALID]).replace("[1]", "[NaN]"), "golden.json is not JSON: "),
        (json.dumps([VALID]).replace("[1]", "[1e999]"), "golden.json is not JSON: "),
        (json.dumps([VALID]).replace("[1]", f"[1{'0' * 400}]"), "golden.json is not JSON: "),
        (json.dumps([{**VALID, "more": 1}]), NO_LIST),
        (json.dumps([{"scores": []}]), NO_LIST),
        (json.dumps([VALID] * 101), NO_LIST),
        (json.dumps([VALID] * 100_000), NO_LIST),
        (json.dumps([{**VALID, "scores": [0.5] * 1_000_000}]), NO_LIST),
        (
            json.dumps([VALID, {**VALID, "request": "text"}]),
            r"request 1 of its golden.json: request: must be an object",
        ),
        (json.dumps([{**VALID, "request": {"user": {}}}]), r"request 0 of its golden.json: candidates: is missing"),
        (json.dumps([{**VALID, "scores": []}]), r"request 0 of its golden.json has 1 candidates and 0 scores"),
        (json.dumps([{**VALID, "scores": [1, 1]}]), r"request 0 of its golden.json has 1 candidates and 2 scores"),
        (
            json.dumps([{**VALID, "scores": [1e308]}]),
            r"request 0 of its golden.json: candidate 0 scores 0\.\d+, but 1e\+308 was",
        ),
        ("[" * 100_000, "golden.json is not JSON: "),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_crafted_golden_requests_end_in_one_line(text: str, message: str, copy: Path) -> None:
    (copy / GOLDEN).write_text(text)
    write_manifest(copy)
    with pytest.raises(UserError, match=message) as error:
        served(copy)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "golden", [[], [{**VALID, "request": {**VALID["request"], "candidates": {"item_id": []}}, "scores": []}]]
)
def test_golden_requests_without_scores_are_none(golden: list, copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copy / GOLDEN).write_text(json.dumps(golden))
    write_manifest(copy)
    caplog.clear()
    assert served(copy).golden is None and len(warnings(caplog)) == 1


def test_a_bundle_of_other_scores_is_not_exported(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(copy, GOLDEN, moved(0, 0.5))
    assert main(["--bundle", str(copy), "--export", "torch", str(tmp_path / "x.pt2")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: bundle {copy}: request 1 of its golden.json: candidate 0 scores")
    assert not (tmp_path / "x.pt2").exists()


def test_it_says_when_it_was_trained(opened: Bundle, project: Path, copy: Path) -> None:
    state = checkpoint.load(project / "checkpoints" / "amazon" / "DIEN_amazon.resume")
    assert opened.trained == state["progress"]["saved_at"] and opened.trained.endswith("+00:00")
    assert json.loads(ModelService(opened, Limits(), Metrics()).describe())["trained"] == opened.trained
    edited(copy, "about.json", lambda about: about.pop("trained") and None)
    assert open_bundle(copy).trained == ""
    for text in ("yesterday", "2026-11-29\nERROR all is lost", 5):
        edited(copy, "about.json", lambda about, text=text: about.update(trained=text))
        with pytest.raises(
            UserError, match=r"trained = .* in about.json of bundle .* must be a date and time, as 2026"
        ):
            open_bundle(copy)
