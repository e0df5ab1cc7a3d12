"""Convolutions with the arguments of ``torch.nn.functional``, and with gradients."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from . import _arguments as arguments
from . import _torch_operator  # noqa: F401  (registers the operators)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d`` through ``torch.ops.convkernels.conv2d``, with gradients.

    Tensors are float32 on the CPU. The library computes the gradients of those tensors that require them. Each call packs
    the weights. Raises ``TypeError`` and ``ValueError`` as ``convkernels.conv2d``.
    """
    window = arguments.window(tuple(weight.shape[-2:]), stride, padding, dilation)
    return _call(input, weight, bias, window, groups, 4)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv1d``, as ``conv2d``."""
    window = arguments.window1d(weight.shape[-1], stride, padding, dilation)
    return _call(input.unsqueeze(-2), weight.unsqueeze(-2), bias, window, groups, 4).squeeze(-2)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d`` through ``torch.ops.convkernels.conv_transpose2d``, with gradients.

    ``weight`` has the shape ``(C, O / groups, KH, KW)``. Otherwise as ``conv2d``; padding is ints.
    """
    _check(input, weight, 4, "(C, O / groups, ...)")
    one = input.dim() == 3
    output: Tensor = torch.ops.convkernels.conv_transpose2d(
        input.unsqueeze(0) if one else input,
        weight,
        bias,
        list(arguments.pair("stride", stride, 1)),
        list(arguments.pair("padding", padding, 0)),
        list(arguments.pair("output_padding", output_padding, 0)),
        list(arguments.pair("dilation", dilation, 1)),
        arguments.integer("groups", groups, 1),
    )
    return output.squeeze(0) if one else output


def _check(input: Tensor, weight: Tensor, dimensions: int, axes: str) -> None:
    if weight.dim() != dimensions or input.dim() not in (dimensions, dimensions - 1):
        raise ValueError(
            f"expected an input (N, C, ...) and weights {axes}, got shapes {tuple(input.shape)} "
            f"and {tuple(weight.shape)}"
        )


def _call(
    input: Tensor, weight: Tensor, bias: Optional[Tensor], window: arguments.Window, groups: Any, dimensions: int
) -> Tensor:
    _check(input, weight, dimensions, "(O, C / groups, ...)")
    top, bottom, left, right = window.padding
    if (top, left) != (bottom, right):
        input = torch.nn.functional.pad(input, (left, right, top, bottom))
        top = left = 0
    one = input.dim() == dimensions - 1
    output: Tensor = torch.ops.convkernels.conv2d(
        input.unsqueeze(0) if one else input,
        weight,
        bias,
        list(window.stride),
        [top, left],
        list(window.dilation),
        arguments.integer("groups", groups, 1),
    )
    return output.squeeze(0) if one else output
