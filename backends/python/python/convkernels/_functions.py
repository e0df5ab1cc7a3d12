"""Single calls: ``conv2d``, ``conv1d`` and ``explain``."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arguments
from . import _arrays as arrays
from ._plan import ConvPlan


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``torch.nn.functional.conv2d`` for float32 arrays and tensors. The kernel is not flipped.

    ``input`` has the shape ``(N, C, H, W)`` or ``(C, H, W)``, ``weight`` ``(O, C / groups, KH, KW)`` and ``bias``
    ``(O,)``. Each call packs the weights: use a ``ConvPlan`` for weights that are used again. Tensors that require
    gradients get them.

    Raises ``TypeError`` for other objects and dtypes, ``ValueError`` for arguments that do not fit, and
    ``MemoryError``.
    """
    return _convolve(4, input, weight, bias, (stride, padding, dilation, groups))


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``torch.nn.functional.conv1d`` for float32 arrays and tensors. The kernel is not flipped.

    ``input`` has the shape ``(N, C, L)`` or ``(C, L)``, ``weight`` ``(O, C / groups, K)``. Otherwise as ``conv2d``.
    """
    return _convolve(3, input, weight, bias, (stride, padding, dilation, groups))


def _convolve(dimensions: int, input: Any, weight: Any, bias: Any, rest: tuple[Any, ...]) -> Any:
    if getattr(weight, "ndim", dimensions) != dimensions:
        raise ValueError(f"weight: expected {dimensions} dimensions, got shape {tuple(weight.shape)}")
    if any(arrays.is_tensor(tensor) and tensor.requires_grad for tensor in (input, weight, bias)):
        from . import torch

        return (torch.conv2d if dimensions == 4 else torch.conv1d)(input, weight, bias, *rest)
    return ConvPlan(weight, bias, *rest)(input)


def explain(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    numerics: str = "default",
    threads: int | None = None,
) -> str:
    """The algorithm and the products that a ``ConvPlan`` of these shapes uses, and why: see ``ConvPlan.explain``.

    ``input_shape`` is ``(N, C, H, W)`` and ``weight_shape`` ``(O, C / groups, KH, KW)``. It packs weights of zeros.
    """
    zeros = np.zeros(arguments.shape("weight_shape", weight_shape, 4), np.float32)
    plan = ConvPlan(zeros, None, stride, padding, dilation, groups, None, numerics)
    return plan.explain(input_shape, threads)
