"""``torch.ops.convkernels``: operators that PyTorch's tracers and autograd know.

Four operators are the derivatives of each other, so gradients of gradients exist as well:

- ``conv2d(x, w)``, the convolution, from the *large* tensor to the *small* one.
- ``conv_transpose2d(y, w)`` and ``conv2d_input(y, w)``, which read the small tensor and write the large one: the transposed
  convolution, and the gradient of ``conv2d`` with respect to ``x``.
- ``conv2d_weight(x, y)``, the gradient with respect to ``w`` and, in the same pass, to the bias.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from . import _arguments as arguments
from . import _arrays as arrays
from ._convkernels import input_gradient, transposed, weight_gradient
from ._plan import ConvPlan

_Window = tuple[list[int], list[int], list[int], int]
"""Stride, padding, dilation and groups, as the operators take them."""


def _common(window: _Window, tensor: Tensor) -> tuple[arguments.Window, int, int]:
    """The window, the groups and the threads of a call, as the native module takes them."""
    (sh, sw), (rows, columns), (dh, dw), groups = window
    threads = arrays.default_threads(tensor, arguments.cores)
    return arguments.Window((sh, sw), (rows, rows, columns, columns), (dh, dw)), groups, threads


def _memory(name: str, tensor: Tensor) -> np.ndarray:
    return arrays.as_numpy(name, tensor.detach())


def _in_order(result: Any, like: Tensor) -> Tensor:
    """The result as a tensor in the memory order of ``like``. Nearly always it has this order, and nothing is copied."""
    return torch.from_numpy(result).contiguous(memory_format=_order(like))


@torch.library.custom_op("convkernels::conv2d", mutates_args=())
def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    plan = ConvPlan(weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)
    output: Tensor = plan(input)
    return output.contiguous(memory_format=_order(input))


@_conv2d.register_fake
def _(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    # PyTorch's own operator infers the same shape, on tensors without memory.
    output = torch.ops.aten.convolution(input, weight, bias, stride, padding, dilation, False, [0, 0], groups)
    return torch.empty_like(output, memory_format=_order(input))


@torch.library.custom_op("convkernels::conv2d_input", mutates_args=())
def _conv2d_input(
    gradient: Tensor,
    weight: Tensor,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    common = _common((stride, padding, dilation, groups), gradient)
    n, c, h, w = size
    result = input_gradient(_memory("gradient", gradient), _memory("weight", weight), (n, c, h, w), common)
    return _in_order(result, gradient)


@_conv2d_input.register_fake
def _(
    gradient: Tensor,
    weight: Tensor,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    return gradient.new_empty(size).contiguous(memory_format=_order(gradient))


@torch.library.custom_op("convkernels::conv2d_weight", mutates_args=())
def _conv2d_weight(
    input: Tensor,
    gradient: Tensor,
    size: list[int],
    bias: bool,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    common = _common((stride, padding, dilation, groups), input)
    o, i, kh, kw = size
    found = weight_gradient(_memory("input", input), _memory("gradient", gradient), (o, i, kh, kw), bias, common)
    of_weight, of_bias = found
    return torch.from_numpy(of_weight), input.new_empty(0) if of_bias is None else torch.from_numpy(of_bias)


@_conv2d_weight.register_fake
def _(
    input: Tensor,
    gradient: Tensor,
    size: list[int],
    bias: bool,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    return input.new_empty(size), input.new_empty(size[0] if bias else 0)


@torch.library.custom_op("convkernels::conv_transpose2d", mutates_args=())
def _conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    common = _common((stride, padding, dilation, groups), input)
    shift = None if bias is None else _memory("bias", bias)
    rows, columns = output_padding
    result = transposed(_memory("input", input), _memory("weight", weight), shift, (rows, columns), common)
    return _in_order(result, input)


@_conv_transpose2d.register_fake
def _(
    input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    output = torch.ops.aten.convolution(input, weight, bias, stride, padding, dilation, True, output_padding, groups)
    return torch.empty_like(output, memory_format=_order(input))


def _order(input: Tensor) -> torch.memory_format:
    """The memory order of the result: channels-last if the input's is, also if it is some channels of a wider one."""
    (_, channels, _, width), (_, channel, row, pixel) = input.shape, input.stride()
    last = not input.is_contiguous() and channel == 1 and pixel >= channels and row == width * pixel
    return torch.channels_last if last else torch.contiguous_format


# The derivatives. Each computes only what `ctx.needs_input_grad` asks for.


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, *window = inputs
    ctx.save_for_backward(input, weight)
    ctx.has_bias = bias is not None
    ctx.window = window


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    input, weight = ctx.saved_tensors
    gradient = _like(gradient, input)
    of_input = of_weight = of_bias = None
    if ctx.needs_input_grad[0]:
        of_input = _conv2d_input(gradient, weight, list(input.shape), *ctx.window)
    needs_bias = ctx.has_bias and ctx.needs_input_grad[2]
    if ctx.needs_input_grad[1]:
        of_weight, sums = _conv2d_weight(input, gradient, list(weight.shape), needs_bias, *ctx.window)
        of_bias = sums if needs_bias else None
    elif needs_bias:
        of_bias = gradient.sum((0, 2, 3))
    return of_input, of_weight, of_bias, None, None, None, None


def _keep_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, weight, _, *window = inputs
    ctx.save_for_backward(gradient, weight)
    ctx.window = window


def _backward_input(ctx: Any, large: Tensor) -> tuple[Any, ...]:
    small, weight = ctx.saved_tensors
    large = _like(large, small)
    of_small = of_weight = None
    if ctx.needs_input_grad[0]:
        of_small = _conv2d(large, weight, None, *ctx.window)
    if ctx.needs_input_grad[1]:
        of_weight, _ = _conv2d_weight(large, small, list(weight.shape), False, *ctx.window)
    return of_small, of_weight, None, None, None, None, None


def _keep_weight(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, gradient, _, bias, *window = inputs
    ctx.save_for_backward(input, gradient)
    ctx.bias, ctx.window = bias, window


def _backward_weight(ctx: Any, filters: Tensor, shifts: Tensor) -> tuple[Any, ...]:
    large, small = ctx.saved_tensors
    of_large = of_small = None
    if ctx.needs_input_grad[0]:
        of_large = _conv2d_input(small, filters, list(large.shape), *ctx.window)
    if ctx.needs_input_grad[1]:
        of_small = _conv2d(large, filters, shifts if ctx.bias else None, *ctx.window)
    return of_large, of_small, None, None, None, None, None, None


def _keep_transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, stride, padding, _, dilation, groups = inputs
    ctx.save_for_backward(input, weight)
    ctx.has_bias = bias is not None
    ctx.window = stride, padding, dilation, groups


def _backward_transposed(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    input, weight = ctx.saved_tensors
    reached, window = _reached(_like(gradient, input), input, weight, ctx.window)
    of_input = of_weight = of_bias = None
    if ctx.needs_input_grad[0]:
        of_input = _conv2d(reached, weight, None, *window)
    if ctx.needs_input_grad[1]:
        of_weight, _ = _conv2d_weight(reached, input, list(weight.shape), False, *window)
    if ctx.has_bias and ctx.needs_input_grad[2]:
        of_bias = gradient.sum((0, 2, 3))
    return of_input, of_weight, of_bias, None, None, None, None, None


def _like(gradient: Tensor, other: Tensor) -> Tensor:
    """The gradient in the memory order of the other tensor: a sum's gradient has strides of zero."""
    return gradient.contiguous(memory_format=_order(other))


def _reached(large: Tensor, small: Tensor, weight: Tensor, window: _Window) -> tuple[Tensor, _Window]:
    """The output of a transposed convolution and the window of the convolution from it to the input.

    Output padding of a stride or more would give that convolution more outputs than the input has. The padding at the end
    is then smaller than the one at the beginning, and both are added here. It can be negative: no tap reaches these rows.
    """
    stride, padding, dilation, groups = window
    pads = []
    for axis in (1, 0):
        steps, taps = (small.shape[2 + axis] - 1) * stride[axis], (weight.shape[2 + axis] - 1) * dilation[axis]
        after = steps + taps + 1 - padding[axis] - large.shape[2 + axis]
        pads += [padding[axis], after]
    (left, right, top, bottom) = pads
    if top - bottom < stride[0] and left - right < stride[1]:
        return large, window
    return torch.nn.functional.pad(large, pads), (stride, [0, 0], dilation, groups)


_conv2d.register_autograd(_backward, setup_context=_keep)
_conv2d_input.register_autograd(_backward_input, setup_context=_keep_input)
_conv2d_weight.register_autograd(_backward_weight, setup_context=_keep_weight)
_conv_transpose2d.register_autograd(_backward_transposed, setup_context=_keep_transposed)
