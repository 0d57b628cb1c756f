import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.studies.comparison.pictures import BINS, calibration, draw_all, slice_aucs
from dien_fuxictr.studies.comparison.slices import Slices
from dien_fuxictr.studies.comparison.table import make_rows


def made() -> tuple[list, dict, dict]:
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 100)
    results, predictions = {}, {}
    for expid, epochs in (("a", (2, 3)), ("b", (1,))):
        results[expid] = [
            {
                "test": {"AUC": 0.7},
                "parameters": 1,
                "epochs": n,
                "train_seconds": 1.0,
                "train_rows": 1,
                "inference_ms": 1.0,
                "curve": [{"step": k, "loss/train": 0.5, "validation/AUC": 0.6} for k in range(n)],
            }
            for n in epochs
        ]
        predictions[expid] = [{"label": label, "score": rng.random(200)} for _ in epochs]
    return make_rows(results, predictions, "a"), results, predictions


def test_every_picture_is_drawn(tmp_path: Path) -> None:
    halves = Slices("history length", ["1", "2-9"], np.arange(200) // 100)
    draw_all(*made(), [halves], tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["auc.png", "auc_by_slice.png", "calibration.png", "learning_curves.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_a_users_style_changes_nothing(tmp_path: Path) -> None:
    for name in ("default", "ggplot"):
        (tmp_path / name).mkdir()
        with style.context(name):
            draw_all(*made(), [], tmp_path / name)
    files = list((tmp_path / "default").iterdir())
    assert len(files) == 3 and all(
        file.read_bytes() == (tmp_path / "ggplot" / file.name).read_bytes() for file in files
    )


def test_auc_of_each_part_is_the_mean_over_the_seeds() -> None:
    label = np.array([1.0, 0, 1, 0, 1])
    runs = [
        {"label": label, "score": np.array([0.9, 0.1, 0.2, 0.8, 0.5])},
        {"label": label, "score": np.array([0.9, 0.1, 0.8, 0.2, 0.5])},
    ]
    assert slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 1, 1, 1]))) == [1.0, 0.5]
    assert np.isnan(slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 0, 0, 1])))[1])


def test_calibration_of_perfectly_calibrated_predictions() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(50_000)
    label = (rng.random(50_000) < score).astype(float)
    predicted, observed = calibration(label, score)
    assert len(predicted) == BINS and (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(observed, predicted, atol=0.02)  # 3 standard errors of a bin's share


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        draw_all(*made(), [], tmp_path)
