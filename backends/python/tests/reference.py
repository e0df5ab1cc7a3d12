"""Convolution by its definition, in float64, and inputs to compare on."""

from __future__ import annotations

import numpy as np


def random(shape, seed=0):
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def conv2d(x, weight, bias=None, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """The sums of the definition, tap by tap. Padding is (top, bottom, left, right)."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    (n, c, _, _), (o, per_group, kh, kw) = x.shape, weight.shape
    assert c == per_group * groups and o % groups == 0
    top, bottom, left, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, o, rows, columns))
    for out in range(o):
        first = out // (o // groups) * per_group
        for i in range(kh):
            for j in range(kw):
                top, left = i * dilation[0], j * dilation[1]
                seen = x[
                    :,
                    first : first + per_group,
                    top : top + stride[0] * (rows - 1) + 1 : stride[0],
                    left : left + stride[1] * (columns - 1) + 1 : stride[1],
                ]
                y[:, out] += np.einsum("nchw,c->nhw", seen, weight[out, :, i, j])
    return y if bias is None else y + bias.astype(np.float64)[:, None, None]


def assert_close(actual, expected, level="default"):
    """The bounds that the level of `numerics` promises: relative L2, and relative to the largest output."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    l2, largest = {
        "strict": (2e-6, 5e-6),
        "default": (2e-6, 5e-6),
        "fast": (6e-6, 2e-5),
        "tf32": (5e-4, 2e-3),
        "bf16": (4e-3, 2e-2),
    }[level]
    error = np.linalg.norm(actual - expected)
    assert error <= l2 * np.linalg.norm(expected) + 1e-30, f"relative L2 {error / np.linalg.norm(expected)}"
    assert np.abs(actual - expected).max() <= largest * np.abs(expected).max() + 1e-30
