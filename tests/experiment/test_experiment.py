"""Python API: what a notebook does, beside what the command line prints."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import UserError


@pytest.fixture
def trained(workspace):
    workspace.use_csv()
    assert workspace.run() == 0
    return workspace


def test_fit_and_evaluate_are_the_command_lines(trained, capsys):
    weights = torch.load(trained.file(".model"), weights_only=True)
    result = (trained.folder / "config.csv").read_text()
    trained.file(".model").unlink()
    run = open_experiment("Tiny_test")
    trained_model = run.fit()
    evaluations = run.evaluate()
    assert all(torch.equal(weights[name], value) for name, value in run.model.state_dict().items())
    for split, name in (("valid", "val"), ("test", "test")):
        written = result.split(f"[{name}] ")[1].split(",")[0].strip()
        assert " - ".join(f"{name}: {value:.6f}" for name, value in evaluations[split].metrics.items()) == written
    assert trained_model.model is run.model and trained_model.progress.total_steps > 0
    again = torch.load(run.checkpoint, weights_only=True)
    assert run.checkpoint.resolve() == trained.file(".model") and torch.equal(
        again["dnn.mlp.0.weight"], weights["dnn.mlp.0.weight"]
    )


def test_second_fit_starts_from_initial_weights(trained):
    run = open_experiment("Tiny_test")
    run.fit()
    first = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.fit()
    assert all(torch.equal(first[name], value) for name, value in run.model.state_dict().items())


def test_evaluation_and_prediction_take_the_checkpoint(trained):
    by_file, by_frame = open_experiment("Tiny_test"), open_experiment("Tiny_test")
    scores = by_file.evaluate()["test"].score
    test = pl.read_csv("test.csv", infer_schema=False).drop("label")
    assert np.array_equal(by_file.predict("test.csv"), scores)
    assert np.array_equal(by_frame.predict(test), scores)
    assert np.array_equal(by_frame.predict(pd.read_csv("test.csv", dtype=str)), scores)
    lists = test.with_columns(pl.col("history").fill_null("").str.split("^"))
    assert np.array_equal(by_frame.predict(lists), scores)
    # The files that the encoder was fitted on may have been removed.
    for split in ("train", "valid"):
        Path(f"{split}.csv").unlink()
    assert np.array_equal(open_experiment("Tiny_test").predict(test), scores)


def test_frames_that_do_not_fit(trained):
    run = open_experiment("Tiny_test")
    with pytest.raises(UserError, match="the frame: column item is missing"):
        run.predict(pl.DataFrame({"history": ["i1"]}))
    with pytest.raises(UserError, match="the frame has no rows"):
        run.predict(pl.read_csv("test.csv").head(0))


def test_the_model_before_training_is_that_of_the_seed(workspace):
    first, second = open_experiment("Tiny_test").model, open_experiment("Tiny_test", overrides={"seed": 8}).model
    torch.rand(3)
    same = open_experiment("Tiny_test").model
    weights = [model.state_dict()["dnn.mlp.0.weight"] for model in (first, second, same)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


def test_settings_win_over_all_files(workspace, caplog):
    workspace.write_configs({"Tiny_test": {"embedding_dim": 4, "remark": "x"}}, {"batch_size": 3})
    with caplog.at_level(logging.WARNING):
        run = open_experiment("Tiny_test", overrides={"embedding_dim": 6, "batch_size": 30, "net_regularizer": 1})
    assert (run.params["embedding_dim"], run.params["batch_size"], run.params["net_regularizer"]) == (6, 30, 1.0)
    assert run.config.origin["batch_size"] == "--set"
    assert run.model.state_dict()["dnn.mlp.0.weight"].shape[1] == 6
    assert "unknown keys" in caplog.text


def test_no_checkpoint(workspace):
    with pytest.raises(UserError, match=r"Tiny_test.model does not exist; run_expid.py --expid Tiny_test trains it"):
        open_experiment("Tiny_test").evaluate()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embeding_dim": 3}, "unknown key 'embeding_dim' in --set; did you mean 'embedding_dim'"),
        ({"lr_scheduler": "cosine"}, "unknown key 'lr_scheduler' in --set: nothing in a run of Tiny reads it; "),
        ({"amp": True}, "unknown key 'amp' in --set: nothing in a run of Tiny reads it; "),
        ({"learning_speed": 1}, "nothing in a run of Tiny reads it; did you mean 'learning_rate'?"),
        (
            {"label_col": {"name": "label", "dtype": "float", "weight": "w"}},
            "unknown key weight ('label' of label_col in",
        ),
        ({"batch_size": 0}, "batch_size = 0 in --set must be a whole number, 1 or more"),
        ({"model_id": "x"}, "--set model_id=x is not allowed: the files of a run have the experiment id, Tiny_test"),
        ({"dataset_id": "tinny"}, "dataset_id 'tinny' is not in config; nearest: tiny"),
    ],
)
def test_settings_that_are_wrong(workspace, settings, message):
    with pytest.raises(UserError) as error:
        open_experiment("Tiny_test", overrides=settings)
    assert message in str(error.value)


def test_the_former_name_of_overrides_is_refused(workspace):
    with pytest.raises(UserError, match=r"set=\.\.\..* is named overrides=\.\.\. now"):
        open_experiment("Tiny_test", set={"seed": 8})  # pyright: ignore[reportArgumentType]


def test_data_are_prepared_once_and_params_stay(workspace):
    workspace.use_csv()
    run = open_experiment("Tiny_test")
    params = dict(run.params)
    data = run.prepare()
    assert run.prepare() is data and data.has_test and data.params["test_data"] != run.params["test_data"]
    assert run.params == params


def test_a_keyword_that_a_constructor_names_is_known(workspace):
    assert open_experiment("Tiny_test", overrides={"fault": "slow"}).params["fault"] == "slow"


def test_set_on_the_command_line(workspace, bad, capsys):
    assert (
        workspace.run("--show-config", "--set", "epochs=2", "hidden_units=[3, 4]", "--set", "learning_rate=1e-2") == 0
    )
    text = capsys.readouterr().out.splitlines()
    assert "epochs: 2  # --set" in text and "learning_rate: 0.01  # --set" in text
    assert "hidden_units: [3, 4]  # --set" in text
    assert "unknown key 'epoch' in --set; did you mean 'epochs'?" in bad("--set", "epoch=2")


@pytest.mark.parametrize("text", ["epochs", "=3", "epochs=[3", "a b=3"])
def test_set_that_is_no_setting(workspace, text, capsys):
    with pytest.raises(SystemExit) as exit:
        workspace.run("--set", text)
    assert exit.value.code == 2 and f"argument --set: {text!r}" in capsys.readouterr().err
