"""A tuner file over the tiny experiment, and a stand-in for `run_expid.py`."""

from pathlib import Path

import pytest
import yaml

from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.resume import as_text
from dien_fuxictr.studies.runs.run import Run

# Its score depends on the embedding_dim of its configuration; a learning rate of 9 makes it fail.
FAST_RUN = """
import json, os, sys, yaml
folder, expid, report = sys.argv[2:7:2]
with open("ran.txt", "a") as ran:
    ran.write(f"{expid} {' '.join(sys.argv[7:])}\\n")
def read(kind, id):
    file = folder + f"/{kind}_config.yaml"
    return yaml.load(open(file if os.path.exists(file) else folder + f"/{kind}_config/{id}.yaml"), yaml.FullLoader)[id]
params = read("model", expid)
print("0%|   |\\r50%|## |\\r100%|###|")
if params.get("learning_rate") == 9:
    sys.exit("error: it cannot learn")
auc = params["embedding_dim"] / 100
os.makedirs(report, exist_ok=True)
with open(report + "/curve.jsonl", "a") as curve:
    curve.write(json.dumps({"step": 1, "epoch": 1, "monitor": auc}) + "\\n")
params = {"seed": 1029, **params, **read("dataset", params["dataset_id"]), "model_id": expid}
result = {"valid": {"AUC": auc, "gAUC": 0.5, "logloss": 0.3}, "test": {"AUC": auc}}
with open(report + "/result.json", "w") as file:
    json.dump({**result, "config": {key: repr(value) for key, value in params.items()}}, file)
"""


@pytest.fixture
def write_tuner(workspace):
    """Write tuner.yaml: `write_tuner({space}, other keys...)`."""

    def write(space: dict, path: str = "tuner.yaml", **keys: object) -> Path:
        file = workspace.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"base_config": "./config/", "base_expid": "Tiny_test", "tuner_space": space, **keys}
        file.write_text(yaml.dump({key: value for key, value in content.items() if value is not None}))
        return Path(path)

    return write


@pytest.fixture
def fast(script):
    return script(FAST_RUN)


@pytest.fixture
def interrupted():
    """Return a function that leaves state and curve of an interrupted run."""

    def leave(run: Run) -> None:
        state = Path(run.params["model_root"], run.params["dataset_id"], f"{run.expid}.resume")
        checkpoint.save({"finished": False, "config": as_text(run.params), "progress": {}}, state)
        run.curve.parent.mkdir(parents=True, exist_ok=True)
        run.curve.touch()

    return leave
