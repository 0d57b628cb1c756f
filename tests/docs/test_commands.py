"""Every command on the project's pages parses, and most run on small data.

Commands that need network, a GPU or minutes are left out.
"""

import argparse
import itertools
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, Block, shell_blocks

CURL = """
curl -s http://127.0.0.1:8080/v1/score -d '{"user": {"item_history": ["B3247SYNTH", "B9314SYNTH"],
"cate_history": ["Camp Stove", "Headlamp"]}, "candidates": {"item_id": ["B8662SYNTH", "B7757SYNTH"],
"cate_id": ["Tripod", "Backpack"]}}'
"""
NOT_RUN = {
    "installs or fetches": [
        "python3 -m venv .venv",
        ".venv/bin/pip install -q -r requirements.txt",
        ".venv/bin/pip install -q -r requirements-test.txt",
        'pip install "uvicorn[standard]" orjson prometheus-client safetensors',
        "pip install optuna",
        'pip install "ray[serve]"',
        "git clone https://github.com/reczoo/FuxiCTR",
    ],
    "tests/house/test_packaging.py installs and runs it": ["pip install .", "run_expid --expid DIEN_amazon"],
    "changes the shell": [". .venv/bin/activate", "cd ~"],
    "starts processes; tests/distributed/test_launcher.py does the same": [
        "python run_expid.py --expid DIEN_amazon --workers 2",
        "torchrun --nproc-per-node 2 run_expid.py --expid DIEN_amazon",
        "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4 --master-addr 10.0.0.1 --master-port 29500 "
        "run_expid.py --expid DIEN_amazon",
    ],
    "tests/test_readme.py runs it": [".venv/bin/python run_expid.py --expid DIEN_amazon"],
    "serves until a signal comes; tests/serving/test_cli.py runs it": [
        "python run_serve.py --expid DIEN_amazon --port 8080",
        "python run_serve.py --bundle DIEN_amazon.bundle",
        "python run_serve.py --bundle DIEN_amazon.bundle --workers 4",
    ],
    "is of a log that has grown; tests/experiment/configuration/test_new_entry.py rebuilds with one": [
        "python run_expid.py --expid DIEN_GRU_my_clicks --rebuild",
    ],
    "writes the bundle; tests/serving/test_hold.py does the same": [
        "python run_serve.py --expid DIEN_amazon --publish",
        "python run_serve.py --expid DIEN_GRU_my_clicks --publish",
    ],
    "exports for seconds; tests/serving/test_export_model.py does the same": [
        "python run_serve.py --expid DIEN_amazon --export onnx DIEN_amazon.onnx",
        "python run_serve.py --bundle DIEN_amazon.bundle --export torch DIEN_amazon.pt2",
    ],
    "the same on Ray; tests/serving/test_ray_serve.py runs it": [
        "python run_serve.py --bundle DIEN_amazon.bundle --engine ray --workers 2 --max-workers 8",
    ],
    "needs a database; tests/studies/sweep/test_storage.py has one": [
        "python run_param_tuner.py --config config/tuner/DIEN_amazon_tpe.yaml --search tpe --trials 40 "
        "--storage postgresql://me@host/studies",
    ],
    "on Ray, several; tests/distributed/test_ray_training.py does the same": [
        "python run_expid.py --expid DIEN_amazon --workers 16 --cluster 10.0.0.1:6379",
    ],
    "on Ray; tests/studies/runs/test_on_ray.py does the same": [
        "python run_comparison.py --suite amazon --cluster auto",
        "python run_param_tuner.py --config config/tuner/DIEN_amazon_tpe.yaml --search tpe --trials 40 "
        "--cluster 10.0.0.1:6379",
    ],
    "switches what that server serves; tests/serving/test_workers.py runs it": [
        'ln -sfn "$(readlink current)" previous',
        'ln -sfn "$(readlink previous)" current.tmp',
        "ln -sfn new current.tmp",
        "mv -T current.tmp current",
    ],
    "asks that server; tests/serving/test_app.py asks the same": [" ".join(CURL.split())],
    "asks that server; tests/serving/test_openapi.py asks the same": [
        "curl -s http://127.0.0.1:8080/openapi.json -o openapi.json",
    ],
    "writes a client by another project's tool": [
        "pip install openapi-python-client",
        "openapi-python-client generate --path openapi.json",
    ],
    "is this suite": [".venv/bin/python -m pytest -n 2", "python -m pytest -n 2"],
    "needs a FuxiCTR checkout; tests/model_zoo/test_drop_in.py drops the folder into the form of one": [
        "python3 -m venv FuxiCTR/.venv",
        ". FuxiCTR/.venv/bin/activate",
        'pip install -r FuxiCTR/requirements.txt torch packaging "numpy<2" "polars<2" "pyarrow<24"',
        "cp -r model_zoo/DIEN FuxiCTR/model_zoo/",
        "cd FuxiCTR/model_zoo/DIEN",
        "PYTHONPATH=../.. python run_expid.py --expid DIEN_test",
        "python run_comparison.py --dataset amazon --zoo FuxiCTR --zoo-models DCN AutoInt DIN",
    ],
    "trains for minutes, each run in its own process; tests/studies/ runs less": [
        "python run_comparison.py --dataset amazon --seeds 3 --workers 2",
        "python run_comparison.py --config config --dataset amazon --seeds 3 --workers 2",
        "python run_comparison.py --expids DIEN_amazon --seeds 8",
        *(
            f"python run_comparison.py --suite {file.relative_to(ROOT)} --workers 2"
            for file in sorted((ROOT / "research" / "suites").glob("*.yaml"))
        ),
        "python run_comparison.py --suite amazon --workers 2",
        "python run_comparison.py --suite amazon --expids DIN_amazon --workers 2",
        "python run_comparison.py --expids DIEN_amazon DIN_amazon GRUAttention_amazon --seeds 5 --base DIN_amazon",
        "python run_comparison.py --dataset my_clicks --seeds 3 --workers 2",
        *(
            f"python run_comparison.py --config research/rocket_launching --dataset {dataset} --seeds 5 --workers 2 "
            f"--out comparisons/rocket_{dataset}"
            for dataset in ("amazon", "amazon_beauty_last")
        ),
        "python run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu 0 1",
        "python run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --workers 2",
        "python run_param_tuner.py --config config/tuner/DIEN_amazon_tpe.yaml --search tpe --trials 10 --workers 2",
        *(
            f"python run_param_tuner.py --config research/searches/{name}.yaml --search tpe --trials {trials} "
            f"--workers 2{' --set build.targets_per_user=16' * name.startswith('movielens')}"
            for name, trials in {
                "beauty_last": 15,
                "beauty_last_other_baselines": 15,
                "beauty": 15,
                "beauty_other_baselines": 5,
                "movielens": 15,
                "movielens_other_baselines": 5,
            }.items()
        ),
    ],
    "measures for up to a minute; tests/benchmarks/test_programs.py runs each program on less": [
        "python -m benchmarks.train_step",
        "python -m benchmarks.inference",
        "python -m benchmarks.epoch",
        "python -m research.programs.roofline",
        "python -m research.programs.lengths",
        "python -m benchmarks.recurrence",
        "python -m benchmarks.vocabulary",
        "python -m research.programs.breakdown",
        "python -m benchmarks.gpu",
        "python -m benchmarks.serving",
        "python -m research.programs.scaling",
        "python -m research.programs.auc_of_other_projects",
        *(
            "python -m research.programs.auc_of_other_projects --expid DIEN_amazon_beauty_last "
            f"--set build.folds=5 build.fold=1 seed=2020 --learning-rates {rates}"
            for rates in ("0.001 0.00808", "0.02")
        ),
        "python -m benchmarks.train_step --batch-size 32 512 4096 --lengths amazon --rounds 2",
        "python -m benchmarks.train_step --batch-size 128 1024 --threads 1 --rounds 2",
        "python -m benchmarks.epoch --expid DIEN_amazon --rounds 9",
        "python -m benchmarks.epoch --expid DIEN_amazon_beauty",
        "python -m research.programs.roofline --rounds 15 --json roofline.json",
        "python -m benchmarks.vocabulary --items 10000 100000 1000000 10000000 --json vocabulary.json",
        "python -m benchmarks.vocabulary --items 10000 10000000 --uniform --json vocabulary_uniform.json",
    ],
    "measures for minutes; tests/benchmarks/test_programs.py runs it on less": [
        "python -m benchmarks.serving --parts attacks overload --seconds 8",
    ],
    "trains for hours; tests/research/test_own_log.py runs it on less": ["python -m research.programs.own_log"],
    "simulates for minutes; tests/research/programs/test_coverage.py runs it on less": [
        "python -m research.programs.coverage",
        "python -m research.programs.coverage --studies 4000",
    ],
    "measures a FuxiCTR checkout too": [
        "python -m benchmarks.serving --zoo ZOO --seconds 10",
        "python -m benchmarks.train_step --batch-size 128 1024 --rounds 8 --memory 1024 --zoo ZOO "
        "--json train_step.json",
        "python -m benchmarks.inference --rounds 5 --zoo ZOO --json inference.json",
        "python -m benchmarks.train_step --batch-size 1024 --rounds 3 --zoo ZOO --malloc kept",
        "python -m research.programs.lengths --batch-size 128 --rounds 3 --zoo ZOO --json lengths.json",
        "python -m research.programs.breakdown --batch-size 1024 --zoo ZOO --json breakdown.json",
    ],
    "measures what such a comparison has trained; tests/research/programs/test_pareto.py runs it on less": [
        "python -m research.programs.pareto comparisons/amazon",
        "python -m research.programs.pareto comparisons/rocket_amazon comparisons/rocket_amazon_beauty_last "
        "--against DIEN_amazon_light DIEN_amazon_booster "
        "DIEN_amazon_beauty_last_light DIEN_amazon_beauty_last_booster --json pareto.json",
    ],
    "draws what those have measured": [
        "python -m benchmarks.draw serving.json --out docs/images",
        "python -m benchmarks.draw train_step.json inference.json vocabulary.json --out docs/images",
        "python -m research.programs.draw lengths.json breakdown.json --out docs/images",
    ],
    "draws into the project; tests/research/programs/test_draw_studies.py draws elsewhere": [
        "python -m research.programs.draw_studies",
    ],
    "measures for many minutes and writes gigabytes; tests/research/programs/test_full_size.py runs it on less": [
        "python -m research.programs.full_size full_size",
        "python -m research.programs.full_size full_size/electronics --log Electronics --json electronics.json",
        "python -m research.programs.full_size full_size/books --log Books --json books.json",
        "python -m research.programs.full_size full_size/taobao --log Taobao",
    ],
    "fetches gigabytes": [
        "wget -P data/raw http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Electronics_5.json.gz",
        "wget -P data/raw http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_Electronics.json.gz",
        "wget -P data/raw http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Books_5.json.gz",
        "wget -P data/raw http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_Books.json.gz",
    ],
    "trains for minutes; tests/test_config.py trains each on small made raw files": [
        "python run_expid.py --expid DIEN_amazon_electronics",
        "python run_expid.py --expid DIEN_amazon_books",
    ],
    "trains for hours or days; tests/studies/ runs less": [
        "python run_comparison.py --dataset amazon_electronics --seeds 5 --workers 2",
        "python run_comparison.py --dataset amazon_books --seeds 5 --workers 2",
        "python run_comparison.py --dataset amazon_electronics --seeds 5 --workers 2 --set "
        "build.negatives=popularity build.ties=file --out comparisons/electronics_authors",
        "python run_comparison.py --dataset amazon_books --seeds 5 --workers 2 --set "
        "build.negatives=popularity build.ties=file --out comparisons/books_authors",
    ],
    "writes the pages that tests/docs/test_reference.py compares": ["python -m docs.reference.generate"],
    "writes the sample into the project; tests/dataset/test_generate_sample.py makes it elsewhere": [
        "python -m dien_fuxictr.dataset.generate_sample"
    ],
    "writes the log into the project; tests/dataset/test_generate_log.py makes it elsewhere": [
        "python -m dien_fuxictr.dataset.generate_log"
    ],
    "makes logs of millions of behaviours; tests/dataset/loading/test_memory_mapped.py runs it on less": [
        "python -m pytest -m full -rP tests/dataset/loading/test_memory_mapped.py -k memory"
    ],
    "reads what an experiment on Beauty has built": [
        "python audit_dataset.py data/amazon_beauty",
        "python -m dien_fuxictr.dataset.copy_samples data/amazon_beauty_last --copies 8 "
        "--out data/amazon_beauty_last_copies",
    ],
}
"""Reason -> commands."""
LISTED = list(itertools.chain(*NOT_RUN.values()))
BLOCKS = [block for block in shell_blocks() if block.page != "docs/tutorial.md"]  # test_tutorial.py follows that page
COMMANDS = list(dict.fromkeys(command for block in BLOCKS for command in block.commands))
OWN = re.compile(r"(\.venv/bin/)?python (?!-m (venv|pytest))")


class Parsed(BaseException):
    """Signal that the command line has passed its parser.

    It is not an Exception, which a command reports as an error of the program.
    """


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a program of this project in this process; return its exit code."""
    _, *words = shlex.split(command)
    is_module = words[0] == "-m"
    monkeypatch.setattr(sys, "argv", words[is_module:])
    try:
        if is_module:
            is_package = hasattr(sys.modules.get(words[1]), "__path__")
            monkeypatch.delitem(sys.modules, f"{words[1]}.__main__" if is_package else words[1], raising=False)
            runpy.run_module(words[1], run_name="__main__")
        else:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    except SystemExit as end:
        assert end.code is None or isinstance(end.code, int)
        return end.code or 0
    return 0


@pytest.mark.parametrize("command", [command for command in COMMANDS if OWN.match(command)])
def test_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(*arguments: object) -> None:
        parse(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(Parsed):
        assert run(command, monkeypatch) == 0 and "--help" in command
        raise Parsed


@pytest.mark.parametrize("block", [block for block in BLOCKS if set(block.commands) - set(LISTED)], ids=str)
def test_runs(block: Block, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(project)
    for command in block.commands:
        if command in LISTED:
            continue
        assert OWN.match(command), f"{command}: say in NOT_RUN why it is not run"
        assert run(command, monkeypatch) == 0, capsys.readouterr().err
    written = {file for file in files_of(project) - before if not file.startswith("config/")}
    ask = ["git", "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(ask, cwd=ROOT, input="\n".join(written), capture_output=True, text=True)
    assert ignored.returncode == 128 or written == set(ignored.stdout.splitlines()), "not in .gitignore"


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_is_not_run_is_on_a_page_once_in_the_list() -> None:
    assert not set(LISTED) - set(COMMANDS)
    assert len(LISTED) == len(set(LISTED))


def test_python_is_that_of_the_active_environment() -> None:
    """But in the README's first commands, which make it."""
    first, *others = (block for block in BLOCKS if block.page == "README.md")
    assert ".venv/bin/python run_expid.py --expid DIEN_amazon" in first.commands
    assert others[0].commands == [". .venv/bin/activate"]
    for block in BLOCKS:
        assert block is first or not [command for command in block.commands if command.startswith(".venv/")]
