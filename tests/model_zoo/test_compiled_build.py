"""Build of the C++ kernels and its cache, mostly with a stand-in compiler."""

import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_recurrence import COMPILER, case, check_against_reference, compiled
from warm_start import SOCKET

from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.attentional_gru import attentional_gru
from model_zoo.DIEN.src.auxiliary_loss import AuxiliaryLoss
from model_zoo.DIEN.src.kernels.backends import _has
from model_zoo.DIEN.src.kernels.cpu.compilation import SOURCES, build
from model_zoo.DIEN.src.kernels.cpu.library import _load
from model_zoo.DIEN.src.layers.packing import Packing

ROOT = Path(__file__).parents[2]


@compiled
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is loaded")
def test_stands_alone_and_shares_the_openmp_of_torch():
    program = """
import sys
from pathlib import Path
from types import ModuleType
import torch
sys.modules["alone"] = package = ModuleType("alone")
package.__path__ = ["."]
from alone.attentional_gru import AttentionalGRU
from alone.layers.packing import Packing
AttentionalGRU(3, 2, backend="compiled")(torch.ones(2, 3), Packing.of_lengths(torch.tensor([2])), torch.ones(2))
print("\\n".join({line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}))
"""
    folder = ROOT / "model_zoo" / "DIEN" / "src"
    printed = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    names = [Path(line).name for line in printed.stdout.splitlines()]
    assert len([name for name in names if name.startswith("kernels-")]) == 1
    assert len([name for name in names if name.startswith(("libgomp", "libomp", "libiomp"))]) <= 1


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Its file. ``calls`` beside it has a line for each library made."""
    script = tmp_path / "bin" / "fake++"
    script.parent.mkdir()
    write_script(
        script,
        f"""
        case "$*" in *-dM*) cat {tmp_path}/macros; exit;; esac
        while [ "$1" != -o ]; do last=$1; shift; done
        case "$last" in /dev/null|*.cpp) ;; *) echo made >> {tmp_path}/calls; sleep 0.2;; esac
        echo library > "$2"
    """,
    )
    (tmp_path / "macros").write_text("version 1")
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return script


def write_script(path, text):
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def calls(compiler):
    return len((compiler.parents[1] / "calls").read_text().splitlines())


def test_builds_once_and_says_so(compiler, caplog):
    caplog.set_level(logging.INFO)
    library = build()
    assert library.parent == compiler.parents[1] / "cache" / "dien-fuxictr" and library.read_text() == "library\n"
    assert [record.message for record in caplog.records if "Compiling" in record.message] == [
        f"Compiling the kernels with {compiler} (with OpenMP) into {library.parent}, once for this machine"
    ]
    assert build() == library
    assert calls(compiler) == 1


def test_builds_again_for_another_compiler_flag_or_source(compiler, monkeypatch, tmp_path):
    libraries = {build()}
    (tmp_path / "macros").write_text("version 2")
    libraries.add(build())
    monkeypatch.setenv("DIEN_CXXFLAGS", "-g")
    libraries.add(build())
    changed = tmp_path / SOURCES[0].name
    changed.write_text(SOURCES[0].read_text() + "\n")
    monkeypatch.setattr("model_zoo.DIEN.src.kernels.cpu.compilation.SOURCES", [changed, *SOURCES[1:]])
    libraries.add(build())
    assert len(libraries) == calls(compiler) == 4
    assert all(library.exists() for library in libraries)


@pytest.mark.parametrize("broken", ["", "lib", "library\nmore"])
def test_builds_again_if_broken(compiler, broken):
    library = build()
    library.write_text(broken)
    assert build().read_text() == "library\n"
    assert calls(compiler) == 2
    build()
    assert calls(compiler) == 2


def test_processes_that_build_at_once_build_once(compiler):
    program = f"import runpy; print(runpy.run_path({build.__code__.co_filename!r})['build']())"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate()[0] for process in started}
    assert len(printed) == 1 and Path(printed.pop().strip()).read_text() == "library\n"
    assert calls(compiler) == 1


def test_a_compiler_that_fails_is_quoted(compiler):
    write_script(compiler, 'case "$*" in *-dM*) exit;; esac; echo out of memory >&2; exit 1')
    with pytest.raises(RuntimeError, match=r"(?s)fake\+\+ .*\.cpp .*failed:\nout of memory"):
        build()
    assert not list((compiler.parents[1] / "cache").rglob("*.so"))


def test_library_that_others_may_write_is_not_loaded(compiler):
    """An attacker can give the file any name, also the name of its digest."""
    library = build()
    library.chmod(0o722)
    assert not build().stat().st_mode & 0o022
    assert calls(compiler) == 2 and library.parent.stat().st_mode & 0o777 == 0o700


def test_linked_library_is_not_loaded(compiler, tmp_path):
    library = build()
    library.rename(tmp_path / "planted.so")
    library.symlink_to(tmp_path / "planted.so")
    assert not build().is_symlink()
    assert calls(compiler) == 2


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_may_write_is_refused(compiler, mode):
    cache = build().parent
    cache.chmod(mode)
    with pytest.raises(RuntimeError, match="may be written by others"):
        build()


def test_a_cache_of_another_user_is_refused(compiler, monkeypatch):
    build()
    monkeypatch.setattr("os.getuid", lambda: 4242)
    with pytest.raises(RuntimeError, match="belongs to another user"):
        build()


def test_a_linked_cache_is_refused(compiler, tmp_path):
    cache = build().parent
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="is a link"):
        build()


def test_a_relative_cache_is_refused(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="not kept in cache: XDG_CACHE_HOME must be an absolute path"):
        build()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("home", ["none", "relative", "a file", "unwritable"])
def test_invalid_home_is_refused(compiler, monkeypatch, tmp_path, home):
    """`docker run --user 12345`: the system knows no such user."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    if home == "none":
        monkeypatch.setattr("os.getuid", lambda: 54321)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", {"relative": "here", "a file": str(tmp_path / "file"), "unwritable": "/proc"}[home])
    with pytest.raises(RuntimeError, match="XDG_CACHE_HOME"):
        build()
    assert not (tmp_path / "here").exists() and not (tmp_path / "~").exists()


@pytest.fixture
def fresh_auto():
    _has.cache_clear()
    _load.cache_clear()
    yield
    _has.cache_clear()
    _load.cache_clear()


@pytest.mark.parametrize("fault", ["no folder", "not loaded"])
def test_without_a_cache_auto_is_torch_and_says_so_once(fault, fresh_auto, real_auto, monkeypatch, tmp_path, caplog):
    if fault == "no folder":
        (tmp_path / "home").write_text("a file")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    else:
        monkeypatch.setattr("ctypes.CDLL", lambda path: (_ for _ in ()).throw(OSError("failed to map segment")))
    c = case(torch.float32, 2, 3, 4)
    for _ in range(2):
        assert all(map(torch.equal, attentional_gru(**c), attentional_gru(**c, backend="torch")))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "auto is torch here" in line and ("cannot be made" in line or "cannot be loaded: failed to map" in line)
    with pytest.raises(RuntimeError, match=r"cannot be (made|loaded)"):
        attentional_gru(**c, backend="compiled")


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("DIEN_CXXFLAGS", "-DNOT_BUILT_YET")
    _has.cache_clear()
    yield
    _has.cache_clear()


def test_without_a_compiler_the_error_says_what_to_install(no_compiler, make_dien, monkeypatch):
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler, .* not found. Install one .*apt install g\+\+"):
        attentional_gru(**case(torch.float32, 2, 3, 4), backend="compiled")
    with pytest.raises(ValueError, match=r"recurrence_backend = 'compiled': .*apt install g\+\+"):
        make_dien(recurrence_backend="compiled")
    monkeypatch.setenv("CXX", "mine++ -v")
    with pytest.raises(RuntimeError, match=r"CXX='mine\+\+' is not found"):
        build()


@pytest.mark.parametrize("layer", ["attention", "auxiliary loss"])
def test_without_a_compiler_a_compiled_layer_is_an_error(layer, no_compiler):
    packing, h = Packing.of_lengths(torch.tensor([2])), torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="apt install g"):
        if layer == "attention":
            InterestAttention(3, 3, "din_attention", [4], "ReLU", backend="compiled")(h, h[:1], packing)
        else:
            has_negative = torch.ones(2, 1, dtype=torch.bool)
            AuxiliaryLoss(3, 3, "net", [4], backend="compiled")(h, h, packing, h.unsqueeze(1), has_negative)


def test_without_a_compiler_auto_is_torch_and_says_so_once(no_compiler, real_auto, caplog):
    c = case(torch.float32, 2, 3, 4)
    for _ in range(2):
        assert all(map(torch.equal, attentional_gru(**c), attentional_gru(**c, backend="torch")))
    assert [record.levelname for record in caplog.records if "apt install g++" in record.message] == ["WARNING"]


def test_the_first_command_trains_without_a_compiler(tmp_path):
    for name in ("config", "data/amazon_sample"):
        shutil.copytree(ROOT / name, tmp_path / name)
    entries = tmp_path / "config" / "model_config" / "amazon.yaml"
    entries.write_text(entries.read_text().replace("epochs: 8", "epochs: 1"))
    run = subprocess.run(
        [sys.executable, str(ROOT / "run_expid.py"), "--expid", "DIEN_amazon"],
        cwd=tmp_path,
        env={"PATH": "", "XDG_CACHE_HOME": str(tmp_path), SOCKET: os.environ.get(SOCKET, "")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("recurrence_backend auto is torch") == 1
    assert (tmp_path / "config.csv").exists()


@compiled
def test_builds_without_openmp_where_there_is_none(compiler, caplog, monkeypatch):
    write_script(compiler, f'case "$*" in *-fopenmp*) echo no OpenMP >&2; exit 1;; esac; exec {COMPILER} "$@"')
    monkeypatch.setenv("DIEN_CXXFLAGS", "-O0")  # compiles in a third of the time
    caplog.set_level(logging.INFO)
    torch.set_num_threads(2)
    check_against_reference(case(torch.float32, 70, 10, 7), "AUGRU", "compiled")
    assert any("without OpenMP, for one thread" in record.message for record in caplog.records)
