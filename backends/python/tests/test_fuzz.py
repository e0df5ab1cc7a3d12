"""Hostile arguments raise, or the result is right. Nothing aborts, hangs or panics.

`CONVKERNELS_FUZZ=10000 pytest tests/test_fuzz.py` runs 10,000 calls of each function.
"""

import os
import warnings
from collections import Counter

import convkernels as ck
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import conv2d, random

CALLS = int(os.environ.get("CONVKERNELS_FUZZ", "500"))
COMPUTED: Counter[str] = Counter()
RAISES = (ValueError, TypeError, MemoryError, OverflowError)
fuzz = settings(max_examples=CALLS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Hostile:
    """Raises from everything that it is asked."""

    def __index__(self):
        raise RuntimeError("index")

    def __float__(self):
        raise RuntimeError("float")

    def __repr__(self):
        raise RuntimeError("repr")


# Sizes are small, or so large that no system has the memory.
small = st.integers(-1, 4)
huge = st.sampled_from([2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400])
scalar = st.one_of(
    small, small, small, huge, st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.binary(max_size=2)
)
number = st.one_of(scalar, st.builds(np.int64, small), st.builds(np.float32, st.floats(width=32)))
sizes = st.one_of(number, number, st.tuples(number, number), st.lists(number, max_size=3))
paddings = st.one_of(sizes, st.sampled_from(["same", "valid", "SAME", ""]))
extents = st.integers(0, 6)


def unusual(draw, x):
    """The same numbers in another order of memory, or other numbers."""
    change = draw(st.integers(0, 9))
    if change == 0:
        return np.asfortranarray(x)
    if change == 1:
        return x[..., ::-1] if x.ndim else x
    if change == 2 and x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if change == 3 and x.ndim:
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if change == 4 and x.ndim:
        return np.broadcast_to(x[:1], x.shape)
    if change == 5 and x.size:
        return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    if change == 6:
        return np.where(x > 1.5, np.float32(np.nan), x)
    return x


TYPES = [np.float64, np.float16, np.int32, np.uint8, ">f4", np.complex64, bool, object, "U1"]


@st.composite
def arrays(draw):
    """Hostile: any type, shape and object."""
    if draw(st.integers(0, 3)) == 0:
        others = [[[1.0, 2.0]], np.float32(3), np.zeros((1,) * 33, np.float32), "x", None, 3, Hostile()]
        return draw(st.sampled_from(others))
    x = random(tuple(draw(extents) for _ in range(draw(st.integers(0, 6)))), 1)
    if draw(st.booleans()):
        x = x.astype(draw(st.sampled_from(TYPES)))
    return x


def mostly(draw, value, hostile):
    """The valid value, or a hostile one in one case of twelve."""
    return draw(hostile) if draw(st.integers(0, 11)) == 0 else value


@st.composite
def convolutions(draw):
    """The arguments of `conv2d`. About half of the calls are valid."""
    at_least_one = st.integers(1, 3)
    either = lambda ints: draw(st.one_of(ints, st.tuples(ints, ints)))
    groups, per_group, kernel = draw(at_least_one), draw(at_least_one), (draw(at_least_one), draw(at_least_one))
    size = draw(st.integers(3, 9)), draw(st.integers(3, 9))
    batch = [] if draw(st.integers(0, 5)) == 0 else [draw(st.integers(1, 2))]
    x = unusual(draw, random((*batch, groups * per_group, *size)))
    outputs = groups * draw(at_least_one)
    weight = unusual(draw, random((outputs, per_group, *kernel), 1))
    bias = unusual(draw, random(outputs, 2)) if draw(st.booleans()) else None
    stride, dilation = either(at_least_one), either(st.integers(1, 2))
    padding = either(st.integers(0, 2))
    if draw(st.integers(0, 3)) == 0:
        padding = draw(st.sampled_from(["same", "valid"]))
        stride = 1 if padding == "same" else stride
    hostile = [arrays(), arrays(), arrays(), sizes, paddings, sizes, number]
    values = [x, weight, bias, stride, padding, dilation, groups]
    return tuple(mostly(draw, value, bad) for value, bad in zip(values, hostile))


def as_pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def check(x, weight, bias, stride, padding, dilation, groups, result):
    """The result against the definition, where the inputs are finite."""
    (sh, sw), (dh, dw) = as_pair(stride), as_pair(dilation)
    if isinstance(padding, str):
        rows, columns = [d * (k - 1) if padding == "same" else 0 for d, k in zip((dh, dw), weight.shape[2:])]
        pads = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    else:
        rows, columns = as_pair(padding)
        pads = (rows, rows, columns, columns)
    batch = x if x.ndim == 4 else x[None]
    expected = conv2d(batch, weight, bias, (int(sh), int(sw)), tuple(map(int, pads)), (int(dh), int(dw)), int(groups))
    expected = expected if x.ndim == 4 else expected[0]
    assert result.shape == expected.shape and result.dtype == np.float32
    if np.isfinite(expected).all():
        assert np.abs(result - expected).max() <= 1e-5 * (1 + np.abs(expected).max())


@given(convolutions())
@fuzz
def test_conv2d(arguments):
    try:
        result = ck.conv2d(*arguments)
    except RAISES:
        return
    COMPUTED["conv2d"] += 1
    check(*arguments, result)


@st.composite
def calls(draw):
    """The arguments of a plan of 3x2x2x2: x, out, residual, threads."""
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(2, 9))
    shape = (n, 3, h - 1, w - 1)
    x = unusual(draw, random((n, 2, h, w)))
    out = np.full(shape, np.nan, np.float32) if draw(st.booleans()) else None
    residual = unusual(draw, random(shape, 3)) if draw(st.booleans()) else None
    values = x, out, residual, draw(st.integers(1, 3))
    return tuple(mostly(draw, value, bad) for value, bad in zip(values, [arrays(), arrays(), arrays(), number]))


@given(calls())
@fuzz
def test_calls_of_a_plan(arguments):
    (x, out, residual, threads), weight = arguments, random((3, 2, 2, 2))
    try:
        result = ck.ConvPlan(weight, threads=threads)(x, out=out, residual=residual)
    except RAISES:
        return
    COMPUTED["plan"] += 1
    batch = x if x.ndim == 4 else x[None]
    expected = conv2d(batch, weight).reshape(result.shape) + (0 if residual is None else residual)
    if np.isfinite(expected).all():
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@st.composite
def filters(draw):
    """Image and kernel, then the mode, the boundary and its value."""
    image = random((draw(st.integers(1, 12)), draw(st.integers(1, 12))))
    kernel = random((draw(st.integers(1, 5)), draw(st.integers(1, 5))), 1)
    mode, boundary = draw(st.sampled_from(["full", "same", "valid"])), draw(st.sampled_from(["fill", "wrap", "symm"]))
    values = unusual(draw, image), unusual(draw, kernel), mode, boundary, draw(st.integers(-2, 2))
    return tuple(mostly(draw, v, bad) for v, bad in zip(values, [arrays(), arrays(), scalar, scalar, scalar]))


@given(filters())
@fuzz
def test_convolve2d(arguments):
    a, k, mode, boundary, fillvalue = arguments
    signal = pytest.importorskip("scipy.signal")
    try:
        result = ck.convolve2d(a, k, mode, boundary, fillvalue, threads=1)
    except RAISES:
        return
    COMPUTED["convolve2d"] += 1
    # Beyond the first reflection, SciPy's rule differs.
    if boundary != "fill" and (k.shape[0] > a.shape[0] or k.shape[1] > a.shape[1]):
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = signal.convolve2d(a.astype(np.float64), k.astype(np.float64), mode, boundary, float(fillvalue))
    assert result.shape == expected.shape and result.dtype == np.float32
    largest = np.abs(expected).max()
    if np.isfinite(expected).all() and largest < 1e30:
        scale = max(1.0, abs(float(fillvalue))) * float(np.abs(k).sum())
        assert np.abs(result - expected).max() <= 1e-5 * (1 + largest + scale)


@st.composite
def correlations(draw):
    """Image, kernel, anchor, border, value and whether two passes are allowed."""
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    image = random((draw(st.integers(1, 9)), draw(st.integers(1, 9)), *channels))
    image = (image * 90).clip(0, 255).astype(np.uint8) if draw(st.booleans()) else unusual(draw, image)
    kernel = unusual(draw, random((draw(st.integers(1, 5)), draw(st.integers(1, 5))), 1))
    anchor = (draw(st.integers(-1, kernel.shape[1] - 1)), draw(st.integers(-1, kernel.shape[0] - 1)))
    border = draw(st.sampled_from(["reflect_101", "reflect", "wrap", "constant", "replicate", 0, 4]))
    values = image, kernel, draw(st.sampled_from([None, anchor])), border, draw(st.integers(-2, 2)), draw(st.booleans())
    return tuple(mostly(draw, v, bad) for v, bad in zip(values, [arrays(), arrays(), sizes, *[scalar] * 3]))


@given(correlations())
@fuzz
def test_filter2d(arguments):
    src, kernel, anchor, border, value, separable = arguments
    try:
        result = ck.filter2D(src, kernel, anchor, border, value=value, separable=separable, threads=1)
    except RAISES:
        return
    COMPUTED["filter2D"] += 1
    assert result.shape == src.shape and result.dtype == src.dtype


def test_many_calls_were_valid():
    """Otherwise the tests above would test little."""
    if len(COMPUTED) == 4:
        assert min(COMPUTED.values()) > CALLS / 5, COMPUTED


@given(st.one_of(scalar, st.sampled_from(["resnet50", "no.onnx", "lenet5"])), st.one_of(st.none(), sizes), number)
@fuzz
def test_count(name, input, batch):
    try:
        assert ck.count(name, input, batch).params > 0
    except (*RAISES, OSError):
        pass


def test_objects_that_raise():
    x, weight = random((1, 2, 5, 5)), random((3, 2, 2, 2), 1)
    for name in ("stride", "padding", "dilation", "groups"):
        with pytest.raises(RuntimeError, match="index"):
            ck.conv2d(x, weight, **{name: Hostile()})
        # Longer than Python prints.
        with pytest.raises(ValueError, match=name):
            ck.conv2d(x, weight, **{name: 10**5000})
    with pytest.raises(TypeError, match="got Hostile"):
        ck.conv2d(Hostile(), weight)
