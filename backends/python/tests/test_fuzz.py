"""Hostile arguments raise, or the result is right. Nothing aborts, hangs or panics.

`CONVKERNELS_FUZZ=10000 pytest tests/test_fuzz.py` runs 10,000 calls of each function.
"""

import os
import warnings

import convkernels as ck
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import conv2d, random

CALLS = int(os.environ.get("CONVKERNELS_FUZZ", "500"))
RAISES = (ValueError, TypeError, MemoryError, OverflowError)
fuzz = settings(max_examples=CALLS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Hostile:
    """Raises from everything that it is asked."""

    def __index__(self):
        raise RuntimeError("index")

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


@st.composite
def arrays(draw, dimensions=4):
    """Arrays of any type, number of dimensions, order, alignment and stride."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.one_of(scalar, st.just([[1.0, 2.0]]), st.just(np.float32(3)), st.just(np.zeros((1,) * 33))))
    count = dimensions if draw(st.integers(0, 7)) else draw(st.integers(0, 6))
    x = random(tuple(draw(extents) for _ in range(count)), draw(st.integers(0, 3)))
    if draw(st.integers(0, 9)) == 0:
        x = x.astype(
            draw(st.sampled_from([np.float64, np.float16, np.int32, np.uint8, ">f4", np.complex64, bool, object, "U1"]))
        )
    change = draw(st.integers(0, 8))
    if change == 0:
        x = np.asfortranarray(x)
    elif change == 1:
        x = x[..., ::-1] if x.ndim else x
    elif change == 2 and x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif change == 3 and x.ndim:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif change == 4 and x.ndim:
        x = np.broadcast_to(x[:1], x.shape)
    elif change == 5 and x.size and not x.dtype.hasobject:
        x = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    elif change == 6 and x.size and x.dtype == np.float32:
        x = np.where(x > 1.5, np.float32(np.nan), x)
    return x


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


@given(arrays(), arrays(), st.one_of(st.none(), arrays(1)), sizes, paddings, sizes, st.one_of(st.just(1), number))
@fuzz
def test_conv2d(x, weight, bias, stride, padding, dilation, groups):
    try:
        result = ck.conv2d(x, weight, bias, stride, padding, dilation, groups)
    except RAISES:
        return
    check(x, weight, bias, stride, padding, dilation, groups, result)


@given(arrays(), st.one_of(st.none(), arrays()), st.one_of(st.none(), arrays()), st.one_of(st.none(), number))
@fuzz
def test_calls_of_a_plan(x, out, residual, threads):
    weight = random((3, 2, 2, 2))
    try:
        result = ck.ConvPlan(weight, threads=threads)(x, out=out, residual=residual)
    except RAISES:
        return
    batch = x if x.ndim == 4 else x[None]
    expected = conv2d(batch, weight).reshape(result.shape) + (0 if residual is None else residual)
    if np.isfinite(expected).all():
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@given(
    arrays(2),
    arrays(2),
    st.one_of(st.sampled_from(["full", "same", "valid"]), scalar),
    st.one_of(st.sampled_from(["fill", "wrap", "symm"]), scalar),
    scalar,
)
@fuzz
def test_convolve2d(a, k, mode, boundary, fillvalue):
    signal = pytest.importorskip("scipy.signal")
    try:
        result = ck.convolve2d(a, k, mode, boundary, fillvalue, threads=1)
    except RAISES:
        return
    # Beyond the first reflection, SciPy's rule differs.
    if boundary != "fill" and (k.shape[0] > a.shape[0] or k.shape[1] > a.shape[1]):
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = signal.convolve2d(a.astype(np.float64), k.astype(np.float64), mode, boundary, float(fillvalue))
    assert result.shape == expected.shape and result.dtype == np.float32
    largest = np.abs(expected).max()
    if np.isfinite(expected).all() and largest < 1e30:
        scale = max(1.0, abs(float(fillvalue))) * np.abs(k).sum()
        assert np.abs(result - expected).max() <= 1e-5 * (1 + largest + scale)


@given(
    arrays(3),
    arrays(2),
    st.one_of(st.none(), sizes),
    st.one_of(st.sampled_from(["reflect_101", "wrap", "constant", "replicate"]), scalar),
    scalar,
)
@fuzz
def test_filter2d(src, kernel, anchor, border, value):
    try:
        result = ck.filter2D(src, kernel, anchor, border, value=value, threads=1)
    except RAISES:
        return
    assert result.shape == src.shape and result.dtype == src.dtype


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
