"""``torch.ops.convkernels.conv2d``: an operator that PyTorch's tracers and autograd know."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from . import _arguments as arguments
from ._plan import ConvPlan


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
    # Nearly always the plan has chosen this order as well, and nothing is copied.
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


def _order(input: Tensor) -> torch.memory_format:
    """The memory order of the result: channels-last if the input's is, also if it is some channels of a wider one."""
    (_, channels, _, width), (_, channel, row, pixel) = input.shape, input.stride()
    last = not input.is_contiguous() and channel == 1 and pixel >= channels and row == width * pixel
    return torch.channels_last if last else torch.contiguous_format


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, stride, padding, dilation, groups = inputs
    ctx.save_for_backward(input, weight)
    ctx.bias_sizes = None if bias is None else list(bias.shape)
    ctx.window = stride, padding, dilation, groups


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    input, weight = ctx.saved_tensors
    stride, padding, dilation, groups = ctx.window
    needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias_sizes is not None and ctx.needs_input_grad[2]]
    gradients = torch.ops.aten.convolution_backward(
        gradient, input, weight, ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups, needed
    )
    return (*gradients, None, None, None, None)


_conv2d.register_autograd(_backward, setup_context=_keep)


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

    Tensors are float32 on the CPU. The gradients are computed by PyTorch's ``convolution_backward``. Each call packs
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


def _call(
    input: Tensor, weight: Tensor, bias: Optional[Tensor], window: arguments.Window, groups: Any, dimensions: int
) -> Tensor:
    if weight.dim() != dimensions or input.dim() not in (dimensions, dimensions - 1):
        raise ValueError(
            f"expected an input (N, C, ...) and weights (O, C / groups, ...), got shapes {tuple(input.shape)} "
            f"and {tuple(weight.shape)}"
        )
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
