"""`data_loader: memory_mapped`: rows of `in_memory`, in bounded memory."""

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from fuxictr.features import FeatureMap
from made_data import FEATURE_COLS, entry, prepare_entry
from made_raw import write_raw
from pages import ROOT

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.audit import main
from dien_fuxictr.dataset.loading import checks, memory_mapped
from dien_fuxictr.dataset.loading.memory_mapped import MemoryMappedDataLoader
from dien_fuxictr.dataset.samples import (
    build_samples,
    coded_samples,
    leak_audit,
    ranges,
    sample_negatives,
    sampling,
)
from dien_fuxictr.dataset.samples.arrays import Disk

MAX_LEN = 12
FULL = pytest.mark.full
NAMES = {"user": "uid", "item": "iid", "category": "cid", "time": "ts"}


def made_log(rows: int, users: int, items: int) -> pl.DataFrame:
    """Popular items, ties within an hour, and rows that are there twice."""
    rng = np.random.default_rng(0)
    item = np.minimum(rng.exponential(items / 5, rows).astype(int), items - 1)
    log = pl.DataFrame(
        {
            "uid": rng.integers(users, size=rows),
            "iid": item,
            "cid": item % 37,
            "brand": item * 7 % 11,
            "ts": 1_700_000_000 + rng.integers(0, 60 * 86_400, rows) // 3600 * 3600,
        }
    )
    return pl.concat([log, log[: rows // 50]])


def columns() -> list[dict]:
    item = copy.deepcopy(FEATURE_COLS[2]) | {"max_len": MAX_LEN}
    tokens = {key: value for key, value in item.items() if key != "share_embedding"}
    return [
        FEATURE_COLS[0],
        {**FEATURE_COLS[1], "name": ["item_id", "cate_id", "brand"]},
        item,
        {**item, "name": "cate_history", "share_embedding": "cate_id"},
        {**item, "name": "brand_history", "share_embedding": "brand"},
        {**tokens, "name": "session_history"},
        {**tokens, "name": "day_history"},
    ]


def built(folder: Path, log: pl.DataFrame, loader: str, more: dict | None = None, **options) -> dict:
    """Return the prepared entry of a data set of the log."""
    folder.mkdir(parents=True, exist_ok=True)
    log.write_parquet(folder / "log.parquet")
    build = {"source": "log", "input": str(folder / "log.parquet"), **NAMES, "side": "brand", "max_len": MAX_LEN}
    params = {"feature_cols": columns(), "build": build | options, "data_loader": loader, "min_categr_count": 2}
    return prepare_entry(entry(folder, folder / loader, "parquet", **(params | (more or {}))))


def made_exposures(rows: int, users: int, items: int) -> pl.DataFrame:
    """Return clicks and other exposures of requests.

    They have a price that changes, a user's device, and rows that are only in histories.
    """
    rng = np.random.default_rng(1)
    return made_log(rows, users, items).with_columns(
        click=pl.Series(rng.integers(0, 5, rows + rows // 50) < 2).cast(pl.Int8),
        target=pl.Series(rng.integers(0, 5, rows + rows // 50) > 0).cast(pl.Int8),
        request=pl.col("ts") // 7200,
        price=(pl.col("iid") % 50 + pl.Series(rng.integers(0, 3, rows + rows // 50))).cast(pl.String),
        device=pl.Series(rng.choice(["a", "b", ""], rows + rows // 50)),
    )


def columns_of(side: str = "brand", context: str = "", remembered: str = "", labelled: bool = False) -> list[dict]:
    """Feature columns for all columns of such a log."""
    item = copy.deepcopy(FEATURE_COLS[2]) | {"max_len": MAX_LEN}
    tokens = {key: value for key, value in item.items() if key != "share_embedding"}
    names = {"item_history": "item_id", "cate_history": "cate_id"}
    names |= {f"{name}_history": name for name in f"{side},{remembered}".split(",") if name}
    if labelled:
        names |= {f"neg_{name}": own for name, own in names.items() if own != remembered}
    scalars = ["item_id", "cate_id", *(name for name in f"{side},{context}".split(",") if name)]
    return [
        FEATURE_COLS[0],
        {**FEATURE_COLS[1], "name": scalars},
        *({**item, "name": name, "share_embedding": own} for name, own in names.items()),
        {**tokens, "name": "session_history"},
        {**tokens, "name": "day_history"},
    ]


def feature_map_of(params: dict) -> FeatureMap:
    folder = Path(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], str(folder))
    feature_map.load(str(folder / "feature_map.json"), params)
    return feature_map


def loader_of(params: dict, split: str = "train", **options) -> MemoryMappedDataLoader:
    options = {"batch_size": 512, "trim_histories": False} | options
    return params["data_loader"](feature_map_of(params), params[f"{split}_data"], split=split, **options)


def rows_of(params: dict, split: str) -> tuple[list[str], np.ndarray]:
    """Return the encoded rows of an epoch, sorted."""
    batches = list(loader_of(params, split, shuffle=split == "train"))
    names = sorted(batches[0])
    wide = np.concatenate(
        [
            np.concatenate([b[name].reshape(len(b["label"]), -1).numpy().astype(np.int64) for name in names], 1)
            for b in batches
        ]
    )
    return names, wide[np.lexsort(wide.T)]


def assert_the_same_set(one: dict, other: dict) -> None:
    for split in ("train", "valid", "test"):
        (names, rows), (of_other, rows_of_other) = rows_of(one, split), rows_of(other, split)
        assert names == of_other and np.array_equal(rows, rows_of_other)
    folders = [Path(params["data_root"], params["dataset_id"]) for params in (one, other)]
    for file in ("feature_map.json", "feature_vocab.json", "encoder.json", "samples/samples.json"):
        assert len({(folder / file).read_bytes() for folder in folders}) == 1
    for file in (folders[0] / "behaviour_catalogue").iterdir():
        of_one, of_other = (np.load(folder / "behaviour_catalogue" / file.name) for folder in folders)
        assert of_one.files == of_other.files
        for name in of_one.files:
            assert np.array_equal(of_one[name], of_other[name])


TIMES = {"protocol": "time", "valid_from": "2023-12-20", "test_from": "2024-01-01"}


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_history": True},
        {"exclude_history": True, "negatives": "popularity", "ties": "file", "seed": 1},
        {"negatives": "uniform", "duplicates": "keep"},
        {"protocol": "last", "folds": 5, "fold": 2},
        {**TIMES, "session_gap": 86_400},
        {"protocol": "window", "target_days": 20, "history_days": 7, "min_history": 2},
        {"test_last": 2, "targets_per_user": 3},
        {"targets_per_user": 2, "negatives": "popularity"},
    ],
    ids=str,
)
def test_the_rows_are_those_in_memory(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_mapped, "PART_ROWS", 700)
    for module in (build_samples, coded_samples, sampling):
        monkeypatch.setattr(module, "AT_ONCE", 333)
    monkeypatch.setattr(sample_negatives, "AT_ONCE", 501)
    monkeypatch.setattr(ranges, "AT_ONCE", 101)
    monkeypatch.setattr(leak_audit, "AT_ONCE", 37)
    monkeypatch.setattr(leak_audit, "KNN_ROWS", 120)
    monkeypatch.setattr(leak_audit, "KNN_ENTRIES_IN_FILES", 60)
    log = made_log(4000, 150, 400)
    assert_the_same_set(*(built(tmp_path, log, loader, **options) for loader in ("in_memory", "memory_mapped")))


LABELS = {"label": "click"}
REQUESTS = {**LABELS, "request": "request"}
VARIES = {"side": "brand,price", "side_varies": "price"}
CONTEXT = {"context": "device", "context_history": "device"}
WINDOW = {"protocol": "window", "target_days": 20, "history_days": 7}


@pytest.mark.parametrize(
    "options",
    [
        VARIES,
        {**VARIES, **TIMES, "negatives": "popularity"},
        {**VARIES, "targets_per_user": 2, "min_history": 0},
        {"history_order": "shuffled", "exclude_history": True},
        {"history_order": "shuffled", "targets_per_user": 2, **CONTEXT},
        {"target": "target", **CONTEXT},
        {**LABELS, **VARIES, "duplicates": "keep"},
        {**LABELS, **CONTEXT, "targets_per_user": 2},
        {**REQUESTS, "ties": "file"},
        {**REQUESTS, **CONTEXT, **TIMES},
        {**REQUESTS, "protocol": "last", "folds": 4},
        {**REQUESTS, **WINDOW, "min_history": 2, "target": "target"},
        {**REQUESTS, "history_order": "shuffled", **VARIES},
    ],
    ids=str,
)
def test_all_options_have_the_rows_in_memory(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_mapped, "PART_ROWS", 700)
    for module in (build_samples, coded_samples, sampling):
        monkeypatch.setattr(module, "AT_ONCE", 333)
    monkeypatch.setattr(leak_audit, "AT_ONCE", 37)
    monkeypatch.setattr(leak_audit, "KNN_ROWS", 120)
    log = made_exposures(4000, 150, 400)
    named = {name: options.get(name, "") for name in ("context", "context_history")}
    cols = columns_of(
        options.get("side", "brand"), named["context"], named["context_history"], labelled="label" in options
    )
    more = {"feature_cols": cols}
    sets = [built(tmp_path, log, loader, more, **options) for loader in ("in_memory", "memory_mapped")]
    assert_the_same_set(*sets)
    checks.check_encoded(feature_map_of(sets[1]), sets[1])


@pytest.mark.parametrize("form", ["csv", "amazon"])
def test_other_sources_have_the_rows_in_memory(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_mapped, "PART_ROWS", 700)
    monkeypatch.setattr(build_samples, "AT_ONCE", 333)
    log = made_log(3000, 150, 300)
    cols = columns_of("")
    if form == "csv":
        cols = columns_of("brand")
        log.drop("brand").write_csv(tmp_path / "log.csv")
        pl.DataFrame({"iid": range(250), "brand": [f"b{item % 9}" for item in range(250)]}).write_csv(
            tmp_path / "items.csv"
        )
        paths = {name: str(tmp_path / f"{name}.csv") for name in ("log", "items")}
        build = {"source": "log", "input": paths["log"], "items": paths["items"], **NAMES, "side": "brand"}
    else:
        reviews, meta = write_raw(
            tmp_path, log.select("uid", "iid", "ts").rows(), {f"{item}": ["all", f"c{item % 9}"] for item in range(300)}
        )
        build = {"source": "amazon", "reviews": str(reviews), "meta": str(meta)}
    more = {"feature_cols": cols, "build": build | {"max_len": MAX_LEN}}
    assert_the_same_set(*(built(tmp_path, log, loader, more) for loader in ("in_memory", "memory_mapped")))


def test_columns_may_have_the_names_of_arrays(tmp_path: Path) -> None:
    names = ["row", "hash", "order", "rank", "length", "used", "start"]
    log = made_log(2000, 100, 200).with_columns(pl.col("brand").alias(name) for name in names)
    more = {"feature_cols": columns_of(",".join(names))}
    assert_the_same_set(*(built(tmp_path, log, each, more, side=names) for each in ("in_memory", "memory_mapped")))


def test_numbers_and_further_labels(tmp_path: Path) -> None:
    log = made_log(3000, 150, 300).with_columns(
        price=pl.when(pl.col("iid") % 5 > 0).then(pl.col("iid") / 7), seconds=pl.col("ts") // 3600 % 90
    )
    numeric = {"active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"}
    cols = [*columns_of(""), {**numeric, "name": "price", "fill_na": 1.5}]
    labels = [{"name": "label", "dtype": "float"}, {"name": "seconds", "dtype": "float"}]
    more = {"feature_cols": cols, "label_col": labels, "task": "regression"}
    sets = [
        built(tmp_path, log, loader, more, side="price", context="seconds") for loader in ("in_memory", "memory_mapped")
    ]
    for split in ("train", "valid", "test"):
        batches = [next(iter(loader_of(params, split, batch_size=9_999, shuffle=False))) for params in sets]
        ordered = []
        for batch in batches:
            names = ["user_id", "item_id", "label", "seconds", "price"]
            rows = np.stack([batch[name].numpy().astype(np.float64) for name in names], 1)
            ordered.append(rows[np.lexsort(rows.T[:4])])
        assert np.allclose(*ordered, rtol=1e-5)
        assert len(np.unique(ordered[0][:, 4])) > 20 and len(np.unique(ordered[0][:, 3])) > 20
    checks.check_encoded(feature_map_of(sets[1]), sets[1])


def test_the_last_day_is_that_of_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check also users that are sorted in a part whose last day differs."""
    monkeypatch.setattr(memory_mapped, "PART_ROWS", 700)
    log = made_log(4000, 150, 400).with_columns(ts=pl.col("ts") - 86_400 * (pl.col("uid") % 3 + pl.col("uid") // 30))
    options = {"protocol": "window", "target_days": 20, "history_days": 7}
    assert_the_same_set(*(built(tmp_path, log, loader, **options) for loader in ("in_memory", "memory_mapped")))


def test_rare_items_are_not_in_the_catalogue(tmp_path: Path) -> None:
    log = made_log(2000, 100, 200)
    params = [built(tmp_path, log, loader, {"min_categr_count": 50}) for loader in ("in_memory", "memory_mapped")]
    assert_the_same_set(*params)
    folder = Path(params[0]["data_root"], params[0]["dataset_id"])
    oov = json.loads((folder / "feature_vocab.json").read_text())["item_id"]["__OOV__"]
    assert any((batch["item_history"] == oov).any() for batch in loader_of(params[0], shuffle=False))


def test_a_log_of_100_000_behaviours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_mapped, "PART_ROWS", 30_000)
    log = made_log(100_000, 4000, 3000)
    assert_the_same_set(*(built(tmp_path, log, loader) for loader in ("in_memory", "memory_mapped")))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return built(tmp_path_factory.mktemp("small"), made_log(2000, 100, 200), "memory_mapped")


def test_order_is_seeded_and_resumable_at_any_batch(small: dict) -> None:
    loader = loader_of(small, shuffle=True, batch_size=100)

    def epoch(seed: int, skipped: int = 0) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        batches = iter(loader)
        torch.manual_seed(99)  # the order is drawn when the iterator starts
        return [batch["item_history"] for batch in itertools.islice(batches, skipped, None)]

    whole = epoch(1)
    assert len(whole) == len(loader) and all(map(torch.equal, epoch(1, 5), whole[5:]))
    assert not torch.equal(epoch(2)[0], whole[0])


def test_a_set_of_the_loader_s_former_name_is_used(small: dict, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(small["data_root"], small["dataset_id"])
    file = folder / "fingerprint.json"
    stored = file.read_text()
    assert stored.count('"data_loader": "memory_mapped"') == 1
    older = stored.replace('"data_loader": "memory_mapped"', '"data_loader": "flat"')
    file.write_text(older.replace("encoded/history_length.bin", "encoded/length.bin"))
    lengths = folder / "encoded" / "history_length.bin"
    lengths.rename(lengths.with_name("length.bin"))
    log = pl.read_parquet(folder.parents[1] / "log.parquet")
    with caplog.at_level("INFO"):
        again = built(folder.parents[1], log, "memory_mapped")
    assert again["train_data"] == small["train_data"] and "Building" not in caplog.text
    names, rows = rows_of(again, "train")
    checks.check_encoded(feature_map_of(again), again)
    lengths.with_name("length.bin").rename(lengths)
    file.write_text(stored)
    assert names == rows_of(small, "train")[0] and np.array_equal(rows, rows_of(small, "train")[1])


def test_batches_are_as_long_as_their_longest_history(small: dict) -> None:
    batch = next(iter(loader_of(small, "valid", batch_size=3, trim_histories=True)))
    lengths = (batch["item_history"] > 0).sum(1)
    assert batch["item_history"].shape == (3, int(lengths.max()))
    assert batch["item_id"].dtype == torch.int64 and batch["label"].dtype == torch.float32


def test_what_is_encoded_is_checked(small: dict) -> None:
    fields = {"dien_sequence_field": ("item_history", "cate_history")}
    checks.check_encoded(feature_map_of(small), {**small, **fields})


def test_one_side_of_padding_is_checked(tmp_path: Path) -> None:
    cols = columns()
    cols[3]["padding"] = "pre"
    params = built(tmp_path, made_log(2000, 100, 200), "memory_mapped", {"feature_cols": cols})
    with pytest.raises(UserError, match="item_history has padding: post, cate_history has"):
        checks.check_encoded(feature_map_of(params), {**params, "x_sequence_field": ("item_history", "cate_history")})


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ({"build": None, "train_data": "log.parquet"}, {}, "data_loader: memory_mapped needs a build section"),
        ({}, {"label": "brand"}, "column 'brand' has the value"),
        ({}, {"format": "csv"}, "data_loader: memory_mapped cannot build with format: csv"),
        ({}, {"input": "gone.parquet"}, "raw file gone.parquet does not exist"),
        ({}, {"max_len": 13}, "max_len = 12 of column item_history must be 13 or more"),
        ({}, {"category": "shop"}, "has no column 'shop'"),
        (
            {},
            {**TIMES, "test_from": "2034-01-01"},
            "the test split is empty: no row from test_from = 2034-01-01 on is a sample; the log has",
        ),
        ({"rebuild_dataset": False}, {}, "data_loader: memory_mapped reads csv and raw parquet"),
        (
            {"feature_cols": [{**FEATURE_COLS[1], "name": "price"}]},
            {},
            "price: data_loader: memory_mapped has no categorical",
        ),
    ],
)
def test_what_cannot_be_built(more: dict, options: dict, message: str, tmp_path: Path) -> None:
    log = made_log(1000, 100, 200).unique()
    if "train_data" in more:
        more = {**more, **{f"{split}_data": str(tmp_path / "log.parquet") for split in ("train", "valid", "test")}}
    with pytest.raises(UserError, match=message):
        built(tmp_path, log, "memory_mapped", more, **options)
    assert not (tmp_path / "memory_mapped" / "made").exists()


def test_the_audit_of_the_build_is_shown_again(small: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(small["data_root"], small["dataset_id"])
    assert main([str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out == leak_audit.table(json.loads((folder / "samples" / "samples.json").read_text())["audit"]) + "\n"
    (tmp_path / "samples.json").write_text('{"options": {}}')
    assert main([str(tmp_path)]) == 2
    assert "samples.json was not written by a build (KeyError('audit'))" in capsys.readouterr().err


def test_a_build_ends_with_its_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        built(tmp_path, made_log(2000, 100, 200), "memory_mapped", negatives="uniform")
    rows = Disk(tmp_path / "memory_mapped" / "made" / "encoded").open("history_length", np.int32).size
    assert f"Made samples of {rows} behaviours\nAUC of rules without a model on 200 test samples:" in caplog.text
    assert "WARNING" in caplog.text and "leak: the rule 'training popularity' scores" in caplog.text


def test_rows_sorted_by_length_are_refused(small: dict) -> None:
    with pytest.raises(UserError, match="cannot sort rows"):
        loader_of(small, bucket_by_length=True)


def test_times_that_change_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_samples, "AT_ONCE", 100)
    log = made_log(300, 10, 20).with_row_index()
    log = log.with_columns(ts=pl.when(pl.col("index") < 200).then("ts").otherwise(pl.col("ts") * 1000))
    with pytest.raises(UserError, match=r"'ts' holds numbers in s by their range at first, then numbers in ms"):
        built(tmp_path, log, "memory_mapped")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left|too large"):
        Disk(tmp_path).new("huge", np.int64, 2**56)


PEAK = """
import itertools, json, sys, threading, time
sys.path[:0] = {paths}
from pathlib import Path
from test_memory_mapped import built_from, loader_of
taken = []
def watch():
    while True:
        with open("/proc/self/status") as status:
            taken.append(next(int(line.split()[1]) for line in status if line.startswith("RssAnon")))
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
params = built_from(Path(sys.argv[1]))
built = len(taken)
for _ in itertools.islice(loader_of(params, shuffle=True, batch_size=1024, trim_histories=True), {batches}):
    pass
print(json.dumps([max(taken[:built]), max(taken[built:])]))
"""


def built_from(folder: Path) -> dict:
    build = {"source": "log", "input": str(folder / "log"), **NAMES, "side": "brand", "max_len": MAX_LEN}
    params = {"feature_cols": columns(), "build": build, "data_loader": "memory_mapped", "verbose": 0}
    return prepare_entry(entry(folder, folder / "memory_mapped", "parquet", **params))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("few", "many", "batches"), [(200_000, 1_000_000, 300), pytest.param(4_000_000, 40_000_000, 1000, marks=FULL)]
)
def test_memory_does_not_grow_with_the_log(few: int, many: int, batches: int, tmp_path: Path) -> None:
    """Measure a process that builds and reads, without pages of mapped files.

    The system can reclaim these pages.
    """
    peaks = []
    for rows in (few, many):
        folder = tmp_path / str(rows)
        (folder / "log").mkdir(parents=True)
        for part in range(0, rows, few):
            log = made_log(few, 10_000, 500).with_columns(ts=pl.col("ts") + part)
            log.write_parquet(folder / "log" / f"{part}.parquet", row_group_size=50_000)
        paths = [str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)]
        code = PEAK.format(paths=paths, batches=batches)
        command = [sys.executable, "-c", code, str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=many // 10_000)
        peaks.append(json.loads(run.stdout.splitlines()[-1]))
        print(f"{rows} behaviours: build and reading take {[round(peak / 1024) for peak in peaks[-1]]} MiB")
    for small, large in zip(*peaks, strict=True):
        assert large < 1.1 * small, peaks
