from pathlib import Path

import numpy as np

from dien_fuxictr.common.summary_text import files_text
from dien_fuxictr.experiment.evaluation.evaluate import Evaluation
from dien_fuxictr.experiment.run_summary import metrics_table, settings_text
from model_zoo.DIEN.src import DIEN


def evaluation(rows: int, **metrics: float) -> Evaluation:
    return Evaluation(metrics=metrics, label=np.zeros(rows), score=np.zeros(rows), group=None, milliseconds=1.0)


def test_settings_are_those_that_differ_from_the_defaults():
    params = {"model": "DIEN", "gru_type": "AUGRU", "epochs": 8, "dnn_hidden_units": [64, 32], "aux_loss_alpha": 0.5}
    text = settings_text(DIEN, params)
    assert text == "  settings  epochs=8 dnn_hidden_units=[64,32] aux_loss_alpha=0.5 (all others: defaults)"
    assert settings_text(DIEN, {"model": "DIEN", "gru_type": "AUGRU"}) == "  settings  defaults"


def test_many_settings_take_three_lines():
    params = {"dnn_hidden_units": [1000 + number for number in range(20)], "attention_hidden_units": [1] * 100}
    params |= {"aux_hidden_units": [2] * 40, "epochs": 9, "seed": 8, "batch_size": 7}
    lines = settings_text(DIEN, params).splitlines()
    assert len(lines) <= 3 and lines[-1].endswith("... (--show-config lists all)")


def test_metrics_are_aligned():
    table = metrics_table(
        {"valid": evaluation(1080, AUC=0.5, logloss=12.25), "test": evaluation(7, AUC=0.75, logloss=0.1)}
    )
    assert table.splitlines() == [
        "             rows     AUC  logloss",
        "validation  1,080  0.5000  12.2500",
        "test            7  0.7500   0.1000",
    ]


def test_files_that_are_not_written_are_left_out():
    assert files_text({"weights": Path("a.model"), "report": None}) == "weights     a.model"
