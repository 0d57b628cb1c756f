"""Validation values from a log: those of a real run, and a log that is being written."""

import re

import pytest
from fuxictr.utils import Monitor

from dien_fuxictr.studies.sweep.curve import ValidationCurve


def test_log_of_a_real_run(workspace):
    workspace.write_configs({"Tiny_test": {"monitor": {"AUC": 1, "logloss": -1}, "eval_steps": 5}})
    assert workspace.run() == 0
    values = ValidationCurve(workspace.file(".log"), Monitor({"AUC": 1, "logloss": -1})).read()
    assert len(values) == 4, "evaluations in 3 epochs of 7 steps, without the last one, of the best weights"
    logged = re.findall(r"onitor\(max\)=(\S+)", workspace.file(".log").read_text())
    assert values == pytest.approx(list(map(float, logged)), abs=3e-6)


def test_log_that_grows_and_whose_run_was_interrupted(tmp_path):
    log = tmp_path / "a.log"
    curve = ValidationCurve(log, Monitor("AUC"))
    assert curve.read() == []

    def values(text: str) -> list[float]:
        with open(log, "a") as file:
            file.write(text)
        return curve.read()

    assert values("INFO Evaluation @epoch 1 - batch 9: \n 50%|#  |\r100%|##|\nINFO [Metrics] AUC: 0.5 - lo") == []
    assert values("gloss: 0.3\nEvaluation @epoch 2 - ba") == [0.5]
    assert values("tch 9: \n") == [0.5]
    assert values("Evaluation @epoch 1 - batch 9: \n[Metrics] AUC: 0.500000\n") == [0.5]
    assert values("Evaluation @epoch 2 - batch 9: \n[Metrics] AUC: 0.600000\n") == [0.5, 0.6]
    assert values("****** Validation evaluation ******\n[Metrics] AUC: 0.700000\n") == [0.5, 0.6]
