"""Functions of the kernels, compared with NumPy's in extended precision.

They are exp, sigmoid, tanh and softplus, over all arguments.
"""

import ctypes
import math
import subprocess

import numpy as np
import pytest
from made_recurrence import COMPILER, NARROW, compiled

from model_zoo.DIEN.src.kernels.cpu.compilation import FLAGS, SOURCES

pytestmark = [
    compiled,
    pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="numpy has no numbers beyond float64"),
]

PROGRAM = """
#include "functions.h"

template <class Real, class Function>
void each(const Real* x, int64_t size, Real* y, Function function) {
    for (int64_t i = 0; i < size; i += WIDTH<Real>) store<Real>(y + i, function(load(x + i)));
}

#define FUNCTION(name, Real, value)                                       \\
    extern "C" void name##_##Real(const Real* x, int64_t size, Real* y) { \\
        each<Real>(x, size, y, [](Vector<Real> x) { return value; });     \\
    }
#define FOR_TYPE(Real)                                \\
    FUNCTION(exp, Real, exp_minus<Real>(x, 0))        \\
    FUNCTION(expm1, Real, exp_minus<Real>(x, 1))      \\
    FUNCTION(sigmoid, Real, sigmoid<Real>(x))         \\
    FUNCTION(tanh, Real, tanh<Real>(x))               \\
    FUNCTION(softplus, Real, softplus<Real>(x))       \\
    FUNCTION(log_1_plus, Real, log_1_plus<Real>(x))

FOR_TYPE(float)
FOR_TYPE(double)

#ifdef __FP_FAST_FMA
extern "C" const bool fused = true;
#else
extern "C" const bool fused = false;
#endif
"""

TYPES = {"float": np.float32, "double": np.float64}
LARGEST = {"float": 87, "double": 708}
"""Arguments of exp beyond it count as it."""
EXPECTED = {
    "exp": np.exp,
    "expm1": np.expm1,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}
# In units of the last place near 0, and their growth with |x|: log(2) is one number, of which exp uses multiples;
# if product and sum are not fused, the product is rounded too.
NEAR_ZERO = {
    "float": {"exp": 3, "expm1": 9.5, "sigmoid": 3.5, "tanh": 7.5, "softplus": 4},
    "double": {"exp": 1.5, "expm1": 2.5, "sigmoid": 2.5, "tanh": 3.5, "softplus": 3.5},
}
GROWTH = {"float": 0.03, "double": 0.3}
GROWTH_NOT_FUSED = 1


@pytest.fixture(scope="module", params=[(), *((flag,) for flag in NARROW)], ids=" ".join)
def functions(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions")
    (folder / "functions.cpp").write_text(PROGRAM)
    flags = [*FLAGS, *request.param, f"-I{SOURCES[0].parent}", "functions.cpp", "-o", "functions.so"]
    subprocess.run([COMPILER, *flags], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "functions.so"))


def run(functions, name, type_, x):
    """Return the function of x in a type, computed in whole vectors."""
    x = np.pad(np.asarray(x, TYPES[type_]), (0, -len(x) % 16))
    y = np.empty_like(x)
    getattr(functions, f"{name}_{type_}")(
        ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(len(x)), ctypes.c_void_p(y.ctypes.data)
    )
    return x, y


def errors(x, y, expected):
    """Signed, in units of the last place."""
    right = expected(x.astype(np.longdouble))
    return ((y.astype(np.longdouble) - right) / np.spacing(np.abs(right).astype(x.dtype))).astype(float)


def arguments(largest):
    g = np.random.default_rng(0)
    return np.concatenate([g.uniform(-bound, bound, 50_000) for bound in (largest, 20, 1, 1e-3, 1e-9)])


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", EXPECTED)
def test_error(functions, name, type_):
    x, y = run(functions, name, type_, arguments(LARGEST[type_]))
    fused = ctypes.c_bool.in_dll(functions, "fused").value
    growth = GROWTH[type_] + GROWTH_NOT_FUSED * (not fused)
    excess = np.abs(errors(x, y, EXPECTED[name])) - growth * np.abs(x)
    assert excess.max() <= NEAR_ZERO[type_][name], (excess.max(), x[excess.argmax()])  # false for NaN, too


@pytest.mark.parametrize("type_", TYPES)
def test_the_series_of_the_logarithm_is_long_enough(functions, type_):
    """Check for bias: a series that is too short would be too small.

    The series is shortest for large arguments; rounding has no sign.
    """
    x, y = run(functions, "log_1_plus", type_, np.random.default_rng(0).uniform(0.9, 1, 64_000))
    assert abs(errors(x, y, np.log1p).mean()) < 0.05


@pytest.mark.parametrize("type_", TYPES)
def test_large_arguments_saturate(functions, type_):
    largest = LARGEST[type_]
    beyond = np.array([largest + 0.5, largest + 1, largest + 2, 1e4, 1e30, math.inf])
    for sign in (1, -1):
        for name in ("exp", "expm1"):
            _, y = run(functions, name, type_, [sign * largest, *sign * beyond])
            assert (y[1:7] == y[0]).all() and 0 < abs(y[0]) < math.inf
        _, y = run(functions, "tanh", type_, sign * beyond)
        assert (y[:6] == sign).all()
    assert (run(functions, "sigmoid", type_, beyond)[1][:6] == 1).all()
    x, y = run(functions, "softplus", type_, beyond)
    assert (y[:6] == x[:6]).all()
    for name in ("sigmoid", "softplus"):
        y = run(functions, name, type_, -beyond)[1][:6].astype(np.longdouble)
        assert (y > 0).all() and (y < 1.01 * np.exp(np.longdouble(-largest))).all()


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", EXPECTED)
def test_nan_stays_nan(functions, name, type_):
    _, y = run(functions, name, type_, [math.nan, 1.0] * 8)
    assert np.isnan(y[::2]).all() and np.isfinite(y[1::2]).all()
