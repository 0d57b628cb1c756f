"""Places where relative paths are searched for."""

from pathlib import Path

import pytest

from dien_fuxictr.common import package_data
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.package_data import find_config
from dien_fuxictr.experiment.configuration.paths import resolve_paths


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Create a config folder below a project, and change to an unrelated folder."""
    (tmp_path / "project" / "config" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def entry(**paths) -> dict:
    return {"dataset_id": "d", "data_root": "./data/", "data_format": "csv", **paths}


def touch(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def test_paths_are_searched_in_documented_order(project):
    config = project / "project" / "config" / "deep"
    places = [project / "project", project / "project" / "config", config]
    for place in places:
        touch(place / "a.csv")
        params = entry(train_data="a.csv")
        resolve_paths(params, config)
        assert params["train_data"] == str(place / "a.csv")
    touch(project / "elsewhere" / "a.csv")
    params = entry(train_data="a.csv")
    resolve_paths(params, config)
    assert params["train_data"] == "a.csv"


def test_missing_file_lists_what_was_tried(project):
    config = project / "project" / "config"
    with pytest.raises(UserError) as error:
        resolve_paths(entry(test_data="./data/none.csv"), config)
    message = str(error.value)
    assert message.startswith("test_data: ./data/none.csv does not exist")
    for base in (project / "elsewhere", config, project / "project", project):
        assert str(base / "data" / "none.csv") in message
    with pytest.raises(UserError, match=r"tried /no/such.csv$"):
        resolve_paths(entry(train_data="/no/such.csv"), config)


def test_folders_globs_and_names_without_suffix_exist(project):
    touch(project / "project" / "parts" / "one.csv")
    touch(project / "project" / "whole.csv")
    params = entry(train_data="parts", valid_data="parts/*.csv", test_data="whole")
    resolve_paths(params, project / "project" / "config")
    assert params["train_data"] == str(project / "project" / "parts")
    assert params["valid_data"] == str(project / "project" / "parts" / "*.csv")
    assert params["test_data"] == str(project / "project" / "whole")


def test_data_root_and_model_root_are_resolved(project):
    params = entry(model_root="./checkpoints/")
    resolve_paths(params, project / "project" / "config")
    assert params["data_root"] == "./data/"
    (project / "project" / "data").mkdir()
    (project / "project" / "checkpoints").mkdir()
    resolve_paths(params, project / "project" / "config")
    assert params["data_root"] == str(project / "project" / "data")
    assert params["model_root"] == "./checkpoints/"


def test_pretrained_embeddings_and_raw_files_of_a_build(project):
    for name in ("emb.h5", "raw/r.json.gz", "raw/m.json.gz"):
        touch(project / "project" / name)
    params = entry(
        train_data="built/train.parquet",
        feature_cols=[{"name": "item", "pretrained_emb": "emb.h5"}],
        build={"source": "amazon", "reviews": "raw/r.json.gz", "meta": "raw/m.json.gz", "max_len": 5},
    )
    resolve_paths(params, project / "project" / "config")
    assert params["feature_cols"][0]["pretrained_emb"] == str(project / "project" / "emb.h5")
    assert params["build"]["reviews"] == str(project / "project" / "raw" / "r.json.gz")
    assert params["train_data"] == "built/train.parquet"


def test_missing_raw_file_shows_its_source_until_built(project):
    def params():
        return entry(build={"reviews": "raw/r.json.gz", "raw_from": "curl it"})

    with pytest.raises(UserError, match=r"build.reviews: raw/r.json.gz does not exist; .*; to get it: curl it$"):
        resolve_paths(params(), project / "project" / "config")
    touch(project / "project" / "data" / "d" / "feature_map.json")
    built = params()
    resolve_paths(built, project / "project" / "config")
    assert built["build"]["reviews"] == "raw/r.json.gz"


def test_encoded_files_must_exist_although_the_feature_map_does(project):
    touch(project / "elsewhere" / "data" / "d" / "feature_map.json")
    with pytest.raises(UserError, match=r"train_data: data/d/train.npz does not exist"):
        resolve_paths({**entry(train_data="data/d/train.npz"), "data_format": "npz"}, project / "project" / "config")


def test_validation_file_equal_to_the_test_file_warns_once(project):
    touch(project / "elsewhere" / "test.csv")
    (warning,) = resolve_paths(entry(valid_data="test.csv", test_data="./test.csv"), project / "project" / "config")
    assert "same file" in warning


def test_missing_config_folder_falls_back_to_shipped_one(project, capsys):
    assert find_config() == find_config("config") == package_data.CONFIG
    assert f"./config/ does not exist; using {package_data.CONFIG}\n" in capsys.readouterr().err
    assert find_config("other") == Path("other")
    (project / "elsewhere" / "config").mkdir()
    assert find_config("./config/") == Path("config")
    assert not capsys.readouterr().err


def test_only_sample_files_are_found_from_anywhere(project):
    build = {"reviews": "./data/amazon_sample/reviews_Sample_5.json.gz"}
    resolve_paths(entry(build=build), project / "project" / "config")
    assert build["reviews"] == str(package_data.SAMPLE / "reviews_Sample_5.json.gz")
    for path in ("data/amazon_sample/none.json.gz", "data/amazon_sample/../../README.md", "run_expid.py"):
        with pytest.raises(UserError, match=r"build.reviews: .* does not exist"):
            resolve_paths(entry(build={"reviews": path}), project / "project" / "config")


def test_four_of_many_places_are_listed(project):
    folder = project / "a" / "b" / "config"
    folder.mkdir(parents=True)
    with pytest.raises(UserError) as error:
        resolve_paths(entry(build={"reviews": "none.gz"}), folder)
    places = [Path.cwd(), folder, *folder.parents[:2]]
    listed = ", ".join(str(place / "none.gz") for place in places)
    assert f"none.gz does not exist; tried {listed} and {len(folder.parents) - 2} folders above" in str(error.value)


def test_nothing_is_built_in_the_installed_package(project, monkeypatch):
    package = project / "site-packages" / "dien_fuxictr"
    (package / "shipped" / "config").mkdir(parents=True)
    for folder in (package / "shipped", package, package.parent):
        (folder / "data").mkdir()
    params = entry()
    resolve_paths(params, package / "shipped" / "config")
    assert params["data_root"] == str(package / "shipped" / "data"), "an ordinary folder is looked in"
    monkeypatch.setattr(package_data, "_PACKAGE", package)
    monkeypatch.setattr(package_data, "IS_INSTALLED", True)
    params = entry()
    resolve_paths(params, package / "shipped" / "config")
    assert params["data_root"] == "./data/"
