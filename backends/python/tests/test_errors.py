"""Bad arguments raise, with words that say what was wrong, what was expected and what was given."""

import convkernels as ck
import numpy as np
import pytest
from reference import random

X, WEIGHT = random((1, 4, 8, 8)), random((6, 4, 3, 3), 1)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"stride": 0}, ValueError, "stride: expected an int from 1"),
        ({"stride": -1}, ValueError, "stride: expected an int from 1 .* got -1"),
        ({"stride": 1.0}, TypeError, "stride: expected an int, got 1.0"),
        ({"stride": float("nan")}, TypeError, "stride: expected an int, got nan"),
        ({"stride": True}, TypeError, "stride: expected an int, got True"),
        ({"stride": (1, 2, 3)}, ValueError, "stride: expected an int or 2 of them, got 3"),
        ({"stride": "1"}, TypeError, "stride: expected an int, got '1'"),
        ({"stride": 2**63}, ValueError, "stride: expected an int from 1 to"),
        ({"padding": -1}, ValueError, "padding: expected an int from 0"),
        ({"padding": 2**100}, ValueError, "padding"),
        ({"padding": 2**62}, ValueError, "overflow"),
        ({"padding": "full"}, ValueError, "padding: expected ints, 'same' or 'valid', got 'full'"),
        ({"padding": "same", "stride": 2}, ValueError, "padding: expected ints for a stride other than 1"),
        ({"padding": "same", "dilation": 2**62}, ValueError, "padding"),
        ({"dilation": 4}, ValueError, "the output is empty: the dilated kernel is 9x9, the padded input is only 8x8"),
        ({"dilation": 2**62}, ValueError, "overflow|empty"),
        ({"groups": 0}, ValueError, "groups"),
        ({"groups": 5}, ValueError, "groups: expected a divisor of the 6 output channels, got 5"),
        ({"groups": 2}, ValueError, "input.c: expected 8 .the input channels of the weights., got 4"),
        ({"bias": np.zeros(5, np.float32)}, ValueError, "bias: expected 6 elements, got 5"),
        ({"bias": np.zeros((6, 1), np.float32)}, ValueError, "bias: expected 1 dimension"),
        ({"bias": np.zeros(6)}, TypeError, "bias: expected dtype float32, got float64"),
        ({"bias": 3}, TypeError, "bias: expected a numpy array or a tensor of PyTorch, got int"),
    ],
)
def test_parameters(arguments, error, words):
    with pytest.raises(error, match=words):
        ck.conv2d(X, WEIGHT, **arguments)


@pytest.mark.parametrize(
    "x, error, words",
    [
        (
            X.astype(np.float64),
            TypeError,
            r"x: expected dtype float32, got float64; convert it with astype\(numpy.float32\)",
        ),
        (X.astype(np.int64), TypeError, "got int64"),
        (X.astype(">f4"), TypeError, "got >f4"),
        (X.astype(object), TypeError, "got object"),
        ([[1.0]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
        (X[0, 0], ValueError, "x: expected 4 dimensions, or 3 without a batch, got 2"),
        (X[:0], ValueError, "input.n: expected at least 1, got 0"),
        (X[:, :0], ValueError, "input.c"),
        (X[:, :, :0], ValueError, "input.h"),
        (X[:, :3], ValueError, "input.c: expected 4"),
        (X[..., :2], ValueError, "the output is empty"),
    ],
)
def test_inputs(x, error, words):
    with pytest.raises(error, match=words):
        ck.conv2d(x, WEIGHT)


@pytest.mark.parametrize(
    "weight, error, words",
    [
        (WEIGHT.astype(np.float64), TypeError, "weight: expected dtype float32"),
        (WEIGHT[0, 0], ValueError, "weight: expected 4 dimensions"),
        (WEIGHT[:0], ValueError, "out_channels: expected at least 1, got 0"),
        (WEIGHT[:, :, :0], ValueError, "kernel.h: expected at least 1, got 0"),
        ("weights", TypeError, "weight: .* got str"),
    ],
)
def test_weights(weight, error, words):
    with pytest.raises(error, match=words):
        ck.conv2d(X, weight)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"activation": "gelu"}, ValueError, "activation: expected None, 'relu'"),
        ({"activation": 3}, TypeError, "activation"),
        ({"activation": ("elu",)}, ValueError, "activation"),
        ({"activation": ("elu", "a")}, TypeError, "activation: expected numbers"),
        ({"activation": ("elu", float("nan"))}, ValueError, "activation.alpha: expected a finite number"),
        ({"activation": ("clip", 2, 1)}, ValueError, "activation.clip: expected lo <= hi"),
        ({"activation": ()}, TypeError, "activation"),
        ({"numerics": "exact"}, ValueError, "numerics: expected one of 'strict', .* got 'exact'"),
        ({"numerics": 1}, TypeError, "numerics: expected one of"),
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": 1.5}, TypeError, "threads"),
    ],
)
def test_plans(arguments, error, words):
    with pytest.raises(error, match=words):
        ck.ConvPlan(WEIGHT, **arguments)


def test_too_many_threads():
    with pytest.raises(ValueError, match="threads: expected a number from 1 to 256, got 10000"):
        ck.ConvPlan(WEIGHT, threads=10000)(X)


def test_memory_that_no_system_has():
    with pytest.raises(MemoryError):
        ck.conv2d(X, WEIGHT, padding=2**24)


def test_explain():
    plan = ck.ConvPlan(WEIGHT)
    with pytest.raises(ValueError, match="shape: expected 4 extents, got 3"):
        plan.explain((4, 8, 8))
    with pytest.raises(TypeError, match="shape: expected a tuple of 4 ints"):
        plan.explain("4x8x8")
    with pytest.raises(ValueError, match="input.c"):
        plan.explain((1, 5, 8, 8))
    with pytest.raises(ValueError, match="threads"):
        plan.explain((1, 4, 8, 8), threads=0)
