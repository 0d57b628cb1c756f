"""A tuner file over the tiny experiment, and a stand-in for `run_expid.py` that takes no time."""

from pathlib import Path

import pytest
import yaml

from dien_fuxictr.studies.runs import workers

# Scores by its embedding_dim, as its configuration tells; a learning rate of 9 makes it fail.
FAST_RUN = """
import os, sys, yaml
folder, expid = sys.argv[2], sys.argv[4]
with open("ran.txt", "a") as ran:
    ran.write(f"{expid} {' '.join(sys.argv[5:])}\\n")
file = folder + "/model_config.yaml"
file = file if os.path.exists(file) else folder + f"/model_config/{expid}.yaml"
params = yaml.load(open(file), yaml.FullLoader)[expid]
print("0%|   |\\r50%|## |\\r100%|###|")
if params.get("learning_rate") == 9:
    sys.exit("error: it cannot learn")
auc = params["embedding_dim"] / 100
with open(folder.split("/")[-1] + ".csv", "a") as results:
    results.write(f" 20260101-000000,[command] python x,[exp_id] {expid},[dataset_id] tiny,[train] N.A.,"
                  f"[val] AUC: {auc:.6f} - gAUC: 0.500000 - logloss: 0.300000,[test] AUC: {auc:.6f}\\n")
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
def script(workspace, monkeypatch):
    """Put other code in the place of `run_expid.py`."""

    def put(code: str) -> Path:
        file = workspace.folder / "a script.py"
        file.write_text(code)
        monkeypatch.setattr(workers, "SCRIPT", file)
        return file

    return put


@pytest.fixture
def fast(script):
    return script(FAST_RUN)
