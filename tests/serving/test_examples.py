"""Example users of a bundle are those of the test data, with all their rows."""

import ast
import gzip
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_columns import META, categorical, numeric, sequence, write_rows
from made_data import as_csv, entry, prepare_entry, write_samples
from made_rows import requests_of

from dien_fuxictr import Experiment
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import OnlineEncoder
from dien_fuxictr.serving import examples as examples_module
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.examples import made_request, titles_in, users_of_test
from dien_fuxictr.serving.write import write_bundle

FIELDS = (("user", "item_history"), ("candidates", "item_id"))


def opened(params: dict) -> Any:
    """Return the part of an experiment that its examples need."""
    return SimpleNamespace(params=params)


def test_users_of_the_test_data(experiment: Experiment, project: Path) -> None:
    examples = users_of_test(experiment, 7)
    own = list(requests_of(project / "data" / "amazon" / "samples"))
    histories = [request["user"] for request in own]
    assert len(examples) == 7 and {len(example["candidates"]["item_id"]) for example in examples} == {2}
    for example in examples:
        rows = [request["candidates"] for request in own if request["user"] == example["user"]]
        assert rows and example["user"] in histories
        for name, values in example["candidates"].items():
            asked = [value for row in rows for value in row[name]]
            assert set(values) <= set(asked)
    assert "user_id" not in str(examples)
    assert users_of_test(experiment, 0) == []


def test_titles_of_their_items(experiment: Experiment, project: Path, tmp_path: Path) -> None:
    examples = users_of_test(experiment, 3)
    items = {item for example in examples for part, name in FIELDS for item in example[part][name]}
    titles = titles_in(examples, experiment.entry)
    assert titles.keys() == items, "the sample's metadata have a title of each item"
    meta = project / "data" / "amazon_sample" / "meta_Sample.json.gz"
    lines = gzip.decompress(meta.read_bytes()).decode().splitlines()
    for record in map(ast.literal_eval, lines):
        assert titles.get(record["asin"], record["title"]) == record["title"]
    assert titles_in([], experiment.entry) == {}
    write_bundle(experiment, tmp_path / "bundle", examples)
    assert open_bundle(tmp_path / "bundle").titles == titles


def test_titles_are_read_without_progress_in_a_log(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, loud = users_of_test(experiment, 1), replace(experiment.entry, verbose=1)
    monkeypatch.setattr("dien_fuxictr.common.progress.has_terminal", lambda: True)
    assert titles_in(examples, loud)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(examples_module, "shows_progress", lambda: True)
    assert titles_in(examples, loud)
    assert "meta_Sample.json.gz:" in capsys.readouterr().err


def test_of_text_they_are_those_of_samples(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    files = {"parquet": samples, "csv": as_csv(samples, tmp_path / "csv")}
    found = []
    for form, folder in files.items():
        params = entry(folder, tmp_path / form, form)
        prepare_entry(params)
        found.append(users_of_test(opened(params), 100))
    assert found[0] == found[1] and len(found[0]) == 12


def test_no_examples_without_test_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = write_samples(tmp_path / "in")
    params = entry(samples, tmp_path, "parquet")
    prepare_entry(params)
    (samples / "test.parquet").unlink()
    assert users_of_test(opened(params), 5) == []
    assert "the bundle has no example users: " in caplog.text


def test_generated_request_is_known_in_every_field(tmp_path: Path) -> None:
    columns = [
        META,
        categorical(["item_id", "cate_id"]),
        categorical("zip", "int"),
        numeric("price"),
        sequence("item_history", share_embedding="item_id"),
    ]
    params = prepare_entry(entry(write_rows(tmp_path / "in"), tmp_path, feature_cols=columns))
    encoder = Encoder.load(tmp_path / "made", params)
    request = made_request(encoder, 4, 3)
    assert request["user"].keys() == {"item_history"} and request["candidates"]["price"] == [0, 0, 0]
    online = OnlineEncoder(encoder)
    for field, values in request["candidates"].items():
        for name, got in online.encode_scalars(field, values).items():
            assert len(got) == 3 and (name == "price" or online.oov[name] not in got)
    (history,) = online.encode_histories(request["user"]).values()
    assert len(history) == 4 and online.oov["item_history"] not in history


def test_generated_request_has_vectors_of_the_right_width() -> None:
    encoder = Encoder([{"name": "image", "dtype": "float", "type": "embedding", "pretrain_dim": 3}], [], {})
    request = made_request(encoder, 4, 2)
    assert request == {"user": {}, "candidates": {"image": [[0.0] * 3] * 2}}
    assert OnlineEncoder(encoder).encode_scalars("image", request["candidates"]["image"])["image"].shape == (2, 3)
