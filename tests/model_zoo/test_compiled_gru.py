"""The compiled backend: against the reference at many sizes, its packed form, its build and the build's cache."""

import copy
import itertools
import logging
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from model_zoo.DIEN.src.layers.attentional_gru import KINDS, AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.layers.compiled import recurrence
from model_zoo.DIEN.src.layers.compiled.build import SOURCES, build
from model_zoo.DIEN.src.layers.compiled.workspace import Pool

ROOT = Path(__file__).parents[2]
COMPILER = next(filter(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))), None)
compiled = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZES = list(itertools.product(KINDS, (torch.float32, torch.float64), (1, 2, 33, 1024), (1, 2, 63, 100),
                               (1, 7, 36, 37, 64, 128)))
# Flags that leave a machine's widest vectors unused.
NARROW = ("-mno-avx512f", "-march=x86-64") if platform.machine() == "x86_64" else ("-O1",)


def pairs(sizes):
    return {(i, sizes[i], j, sizes[j]) for i, j in itertools.combinations(range(len(sizes)), 2)}


def pairwise(every):
    """Few of ``every`` in which each pair of values occurs, small ones rather than large ones."""
    missing = set().union(*map(pairs, every))
    chosen = []
    while missing:
        chosen.append(max(every, key=lambda s: (len(pairs(s) & missing), -s[2] * s[3] * s[4])))
        missing -= pairs(chosen[-1])
    return chosen


def case(dtype, rows, steps, hidden, inputs=None, lengths=None, seed=0):
    """Ragged rows, some without a step; attention is 0 or 1 here and there; nothing is contiguous; padding is NaN."""
    g = torch.Generator().manual_seed(seed)
    inputs = inputs or (1, 5, 36, 70)[hidden % 4]
    if lengths is None:
        lengths = torch.randint(0, steps + 1, (rows,), generator=g)
        lengths[-1] = steps
    mask = torch.arange(steps) < torch.as_tensor(lengths).unsqueeze(1)
    attention = (torch.rand(rows, steps, generator=g) * 1.4 - 0.2).clamp(0, 1)
    c = {
        "inputs": torch.randn(steps, rows, inputs, generator=g).transpose(0, 1),
        "attention": attention,
        "state": torch.randn(hidden, rows, generator=g).t(),
        "weight_ih": torch.randn(inputs, 3 * hidden, generator=g).t() / inputs ** 0.5,
        "weight_hh": torch.randn(hidden, 3 * hidden, generator=g).t() / hidden ** 0.5,
        "bias": torch.randn(2 * 3 * hidden, generator=g)[::2] / 2,
    }
    c["inputs"][~mask] = float("nan")
    c["attention"][~mask] = float("nan")
    return {name: x.to(dtype) for name, x in c.items()} | {"mask": mask}


def outcome(c, kind, backend):
    """States, final and the gradient of each input; the reference's in float64."""
    dtype = torch.float64 if backend == "reference" else c["inputs"].dtype
    leaves = {n: x if n == "mask" else x.to(dtype).detach().requires_grad_() for n, x in c.items()}
    states, final = attentional_gru(**leaves, kind=kind, backend=backend)
    g = torch.Generator().manual_seed(9)
    weigh = [torch.randn(x.shape, generator=g).to(dtype) for x in (states, final)]
    ((states * weigh[0]).sum() + (final * weigh[1]).sum()).backward()
    gradients = {n: x.grad for n, x in leaves.items() if n != "mask" and (n != "attention" or kind != "GRU")}
    return {"states": states.detach(), "final": final.detach(), **gradients}


def check_against_reference(c, kind):
    tolerance = TOLERANCE[c["inputs"].dtype]
    expected = outcome(c, kind, "reference")
    for name, got in outcome(c, kind, "compiled").items():
        bound = tolerance * max(1, expected[name].abs().max().item() if expected[name].numel() else 0)
        error = (got.double() - expected[name]).abs().max().item() if got.numel() else 0
        assert error <= bound, f"{name}: {error} > {bound}"  # false for NaN, too


def packed(c, kind="AUGRU"):
    """The arguments of ``recurrence``."""
    mask = c["mask"]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    return {"x": c["inputs"][mask], "offsets": offsets, "attention": c["attention"][mask],
            **{n: c[n] for n in ("state", "weight_ih", "weight_hh", "bias")}, "kind": kind}


def leaves_of(arguments):
    return {n: x for n, x in arguments.items() if torch.is_tensor(x) and x.is_floating_point()}


@compiled
@pytest.mark.parametrize("kind,dtype,rows,steps,hidden", pairwise(SIZES))
def test_equals_the_reference(kind, dtype, rows, steps, hidden):
    check_against_reference(case(dtype, rows, steps, hidden), kind)


@compiled
@pytest.mark.full
@pytest.mark.parametrize("kind,dtype,rows,steps,hidden", SIZES)
def test_equals_the_reference_at_every_size(kind, dtype, rows, steps, hidden):
    check_against_reference(case(dtype, rows, steps, hidden), kind)


@compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[0, 0, 0], [0], [3], [0, 5, 0, 5, 1]])
def test_empty_rows(kind, lengths):
    c = case(torch.float64, len(lengths), 5, 6, lengths=lengths)
    check_against_reference(c, kind)
    _, final = recurrence(**packed(c, kind))
    empty = torch.tensor(lengths) == 0
    assert torch.equal(final[empty], c["state"][empty])


@compiled
def test_no_rows():
    arguments = packed(case(torch.float32, 2, 3, 4))
    arguments |= {"x": arguments["x"][:0], "attention": arguments["attention"][:0], "state": arguments["state"][:0],
                  "offsets": arguments["offsets"][:1]}
    leaf = arguments["bias"].requires_grad_()
    states, final = recurrence(**arguments)
    assert states.shape == (0, 4) and final.shape == (0, 4)
    (states.sum() + final.sum()).backward()
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@compiled
@pytest.mark.parametrize("hidden", [256, 512])
def test_large_states(hidden):
    check_against_reference(case(torch.float32, 40, 3, hidden), "AUGRU")


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    arguments = packed(case(torch.float64, 5, 3, 3, inputs=2, lengths=[3, 0, 1, 2, 0]), kind)
    leaves = leaves_of(arguments)

    def run(*tensors):
        return recurrence(**{**arguments, **dict(zip(leaves, tensors, strict=True))})

    assert gradcheck(run, [x.requires_grad_() for x in leaves.values()])


@compiled
@pytest.mark.parametrize("kind", ["GRU", "AGRU", "AUGRU"])
def test_each_gradient_alone_equals_that_of_all(kind):
    arguments = packed(case(torch.float64, 6, 5, 4), kind)
    leaves = leaves_of(arguments)
    names = [name for name in leaves if name != "attention" or kind != "GRU"]

    def gradients(of):
        for name, x in leaves.items():
            arguments[name] = x.detach().requires_grad_(name in of)
        states, _ = recurrence(**arguments)
        return torch.autograd.grad(states.square().sum(), [arguments[name] for name in of])

    for name, expected in zip(names, gradients(names), strict=True):
        torch.testing.assert_close(gradients([name])[0], expected, rtol=0, atol=0)


@compiled
@pytest.mark.parametrize("used", ["states", "final"])
def test_one_output_alone(used):
    c = {n: x.detach() for n, x in case(torch.float64, 6, 5, 4).items()}
    gradients = {}
    for backend in ("reference", "compiled"):
        weight = c["weight_hh"].clone().requires_grad_()
        states, final = attentional_gru(**{**c, "weight_hh": weight}, backend=backend)
        gradients[backend] = torch.autograd.grad((states if used == "states" else final).sum(), weight)[0]
    torch.testing.assert_close(gradients["compiled"], gradients["reference"])


@compiled
def test_without_gradients():
    arguments = packed(case(torch.float32, 6, 5, 4))
    arguments["weight_hh"].requires_grad_()
    kept = recurrence(**arguments)
    with torch.no_grad():
        free = recurrence(**arguments)
    assert kept[0].requires_grad and not free[0].requires_grad
    assert all(map(torch.equal, kept, free))


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["GRU", "AUGRU"])
def test_runs_agree_in_every_bit(kind, threads):
    torch.set_num_threads(threads)  # the fixture of all tests resets it
    c = case(torch.float32, 300, 20, 36)
    first = outcome(c, kind, "compiled")
    for _ in range(5):
        for name, again in outcome(c, kind, "compiled").items():
            assert torch.equal(again, first[name]), name


@compiled
def test_threads_do_not_change_states():
    arguments = packed(case(torch.float32, 300, 20, 36))
    one = recurrence(**arguments)
    torch.set_num_threads(2)
    assert all(map(torch.equal, recurrence(**arguments), one))


@compiled
def test_threads_of_the_caller_do_not_meet():
    cases = [packed(case(torch.float32, 200, 40, 36, seed=seed)) for seed in range(4)]

    def run(arguments):
        weight = arguments["weight_hh"].clone().requires_grad_()
        return torch.autograd.grad(recurrence(**{**arguments, "weight_hh": weight})[0].square().sum(), weight)[0]

    expected = [run(arguments) for arguments in cases]
    wrong = []

    def work(number):
        wrong.extend(number for _ in range(5) if not torch.equal(run(cases[number]), expected[number]))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@compiled
def test_graphs_that_live_at_once_keep_their_own():
    arguments = packed(case(torch.float32, 200, 40, 36))  # large enough for pooled memory
    weights = [arguments["weight_hh"].mul(scale).requires_grad_() for scale in (1, 0.5)]

    def loss(weight):
        return recurrence(**{**arguments, "weight_hh": weight})[0].square().sum()

    expected = [torch.autograd.grad(loss(weight), weight)[0] for weight in weights]
    losses = [loss(weight) for weight in weights]
    for alive, weight, gradient in zip(losses, weights, expected, strict=True):
        for _ in range(2):
            assert torch.equal(torch.autograd.grad(alive, weight, retain_graph=True)[0], gradient)


def test_pool_gives_memory_again_once_nothing_refers_to_it():
    pool = Pool()
    first, second = pool.empty(1 << 20, torch.float32), pool.empty(1 << 20, torch.float32)
    address = first.data_ptr()
    assert second.data_ptr() != address
    view = first[5:]
    del first
    assert pool.empty(1 << 20, torch.float32).data_ptr() not in (address, second.data_ptr())
    del view
    smaller = pool.empty(1 << 19, torch.float32)
    assert smaller.data_ptr() != second.data_ptr()
    assert smaller.shape == (1 << 19,) and smaller.dtype == torch.float32


def test_pool_replaces_what_has_become_too_small():
    pool = Pool()
    for size in (1 << 20, 1 << 21, 1 << 22):
        pool.empty(size, torch.float64)
    assert len(pool._free) == 1


@compiled
def test_second_derivatives_are_refused():
    arguments = packed(case(torch.float64, 4, 3, 2))
    x = arguments["x"].requires_grad_()
    gradient, = torch.autograd.grad(recurrence(**arguments)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@compiled
@pytest.mark.parametrize("dtype,bound", [(torch.float32, 2e-7), (torch.float64, 1e-12)])
def test_sigmoid_and_tanh(dtype, bound):
    z = torch.cat([torch.linspace(-30, 30, 20001), torch.linspace(-1e-3, 1e-3, 101),
                   torch.tensor([0.0, 87, -87, 88, -88, 104, -104, 709, -709, 1e4, -1e4, 1e30, -1e30])]).to(dtype)

    def after_one_step(gate, bias):
        weight = torch.zeros(3, 1, dtype=dtype)
        weight[gate] = 1
        return recurrence(z.unsqueeze(1), torch.arange(len(z) + 1), None, torch.zeros(len(z), 1, dtype=dtype), weight,
                          torch.zeros(3, 1, dtype=dtype), torch.tensor(bias, dtype=dtype), "GRU")[1].squeeze(1)

    u = after_one_step(0, [0, 0, 50])  # tanh(50) is 1
    candidate = after_one_step(2, [50, 0, 0])  # so is sigmoid(50)
    assert (u.double() - z.double().sigmoid()).abs().max() < bound
    assert (candidate.double() - z.double().tanh()).abs().max() < bound
    small = z.abs() < 1
    assert ((candidate.double() - z.double().tanh())[small].abs() <= 4 * bound * z.double()[small].abs()).all()


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_its_row(dtype, value):
    arguments = packed(case(dtype, 40, 4, 5), "AUGRU")
    states, final = recurrence(**arguments)
    begin, end = arguments["offsets"][-2:]
    arguments["x"] = arguments["x"].clone()
    arguments["x"][begin, 0] = value
    other_states, other_final = recurrence(**arguments)
    assert torch.equal(other_states[:begin], states[:begin]) and torch.equal(other_final[:-1], final[:-1])
    assert end == len(states)
    if value != value:
        assert other_final[-1].isnan().all()


@compiled
def test_the_module_copies_and_loads():
    c = case(torch.float32, 4, 5, 6, inputs=3)
    gru = AttentionalGRU(3, 6, backend="compiled")
    other = AttentionalGRU(3, 6, backend="packed")
    other.load_state_dict(gru.state_dict())
    run = [module(c["inputs"], c["mask"], c["attention"]) for module in (gru, copy.deepcopy(gru), other)]
    assert all(map(torch.equal, run[0], run[1]))
    torch.testing.assert_close(run[0], run[2])


@compiled
@pytest.mark.parametrize("name,value,message", [
    ("offsets", torch.tensor([0, 2, 1, 4]), "offsets must rise from 0"),
    ("offsets", torch.tensor([0, 1, 2, 3]), "offsets must rise from 0"),
    ("offsets", torch.tensor([1, 2, 3, 4]), "offsets must rise from 0"),
    ("attention", torch.ones(3), r"attention must be \(4,\), torch.float32 on a CPU, is \(3,\)"),
    ("attention", None, r"attention must be \(4,\), torch.float32 on a CPU, is None"),
    ("state", torch.ones(2, 2), r"state must be \(3, 2\)"),
    ("weight_ih", torch.ones(6, 4), r"weight_ih must be \(6, 5\)"),
    ("weight_hh", torch.ones(6, 2, dtype=torch.float64), "weight_hh must be .* is .* torch.float64"),
    ("bias", torch.ones(6, device="meta"), "bias must be .* on a CPU, is .* on meta"),
    ("x", torch.ones(4, 5, dtype=torch.float16), "x is torch.float16; allowed: torch.float32, torch.float64"),
])
def test_refuses_what_it_cannot_take(name, value, message):
    arguments = {"x": torch.ones(4, 5), "offsets": torch.tensor([0, 2, 2, 4]), "attention": torch.ones(4),
                 "state": torch.ones(3, 2), "weight_ih": torch.ones(6, 5), "weight_hh": torch.ones(6, 2),
                 "bias": torch.ones(6), "kind": "AUGRU"}
    with pytest.raises(ValueError, match=message):
        recurrence(**{**arguments, name: value})


@compiled
@pytest.mark.parametrize("flags", NARROW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference_with_narrow_vectors(monkeypatch, flags, dtype):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for kind, hidden in zip(KINDS, (1, 7, 36, 37, 64), strict=True):
        check_against_reference(case(dtype, 33, 10, hidden), kind)


@compiled
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is loaded")
def test_stands_alone_and_shares_the_openmp_of_torch():
    program = """
from pathlib import Path
import torch
from layers import attentional_gru
gru = attentional_gru.AttentionalGRU(3, 2, backend="compiled")
gru(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2))
print("\\n".join({line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}))
"""
    folder = ROOT / "model_zoo" / "DIEN" / "src"
    printed = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    names = [Path(line).name for line in printed.stdout.splitlines()]
    assert len([name for name in names if name.startswith("recurrence-")]) == 1
    assert len([name for name in names if name.startswith(("libgomp", "libomp", "libiomp"))]) <= 1


# The build and its cache, with a compiler that writes down its calls and makes a library of one line.

@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Its file. ``calls`` beside it has a line for each library made."""
    script = tmp_path / "bin" / "fake++"
    script.parent.mkdir()
    write_script(script, f"""
        case "$*" in *-dM*) cat {tmp_path}/macros; exit;; esac
        while [ "$1" != -o ]; do last=$1; shift; done
        case "$last" in /dev/null) ;; *) echo made >> {tmp_path}/calls; sleep 0.2;; esac
        echo library > "$2"
    """)
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
        f"Compiling the recurrence with {compiler} (with OpenMP) into {library.parent}, once for this machine"]
    assert build() == library
    assert calls(compiler) == 1


def test_builds_anew_for_another_compiler_flag_or_source(compiler, monkeypatch, tmp_path):
    libraries = {build()}
    (tmp_path / "macros").write_text("version 2")
    libraries.add(build())
    monkeypatch.setenv("DIEN_CXXFLAGS", "-g")
    libraries.add(build())
    changed = tmp_path / SOURCES[0].name
    changed.write_text(SOURCES[0].read_text() + "\n")
    monkeypatch.setattr("model_zoo.DIEN.src.layers.compiled.build.SOURCES", [changed, *SOURCES[1:]])
    libraries.add(build())
    assert len(libraries) == calls(compiler) == 4
    assert all(library.exists() for library in libraries)


@pytest.mark.parametrize("broken", ["", "lib", "library\nmore"])
def test_builds_anew_what_is_broken(compiler, broken):
    library = build()
    library.write_text(broken)
    assert build().read_text() == "library\n"
    assert calls(compiler) == 2
    build()
    assert calls(compiler) == 2


def test_processes_that_build_at_once_build_once(compiler):
    program = f"import runpy; print(runpy.run_path({build.__code__.co_filename!r})['build']())"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
               for _ in range(2)]
    printed = {process.communicate()[0] for process in started}
    assert len(printed) == 1 and Path(printed.pop().strip()).read_text() == "library\n"
    assert calls(compiler) == 1


def test_a_compiler_that_fails_is_quoted(compiler):
    write_script(compiler, 'case "$*" in *-dM*) exit;; esac; echo out of memory >&2; exit 1')
    with pytest.raises(RuntimeError, match=r"(?s)fake\+\+ .*kernel.cpp .*failed:\nout of memory"):
        build()
    assert not list((compiler.parents[1] / "cache").rglob("*.so"))


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    gru = AttentionalGRU(3, 2, backend="compiled")
    monkeypatch.setenv("DIEN_CXXFLAGS", "-DNOT_BUILT_YET")
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler, .* not found. Install one .*apt install g\+\+"):
        gru(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2))
    monkeypatch.setenv("CXX", "mine++ -v")
    with pytest.raises(RuntimeError, match=r"CXX='mine\+\+' is not found"):
        build()


@compiled
def test_builds_without_openmp_where_there_is_none(compiler, caplog):
    write_script(compiler, f'case "$*" in *-fopenmp*) echo no OpenMP >&2; exit 1;; esac; exec {COMPILER} "$@"')
    caplog.set_level(logging.INFO)
    torch.set_num_threads(2)
    check_against_reference(case(torch.float32, 70, 10, 7), "AUGRU")
    assert any("without OpenMP, for one thread" in record.message for record in caplog.records)
