"""Modules that train: PyTorch's convolutions with the library's sums and gradients."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from ._torch_functional import conv2d, conv_transpose2d
from ._torch_modules import is_transformed


def _ours(*tensors: Optional[Tensor]) -> bool:
    """Whether the library computes with these tensors, with or without gradients."""
    if is_transformed() or torch.is_autocast_enabled("cpu"):
        return False
    return all(
        x is None or (x.dtype == torch.float32 and x.is_cpu and x.layout == torch.strided and x.numel() > 0)
        for x in tensors
    )


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` for training: the library computes the output and the gradients.

    It has the arguments, parameters and ``state_dict`` of PyTorch's module, and calls PyTorch for other dtypes and devices,
    for empty tensors, under autocast and inside ``torch.func``. Each call packs the weights. For inference, ``convkernels.torch.optimize`` is
    faster.
    """

    @classmethod
    def of(cls, module: nn.Conv2d) -> Conv2d:
        """A module with the same parameters, not copies of them."""
        return _with_parameters(cls, module)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        if self.padding_mode != "zeros" or not _ours(input, weight, bias):
            return super()._conv_forward(input, weight, bias)
        return conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` for training, as ``Conv2d``."""

    @classmethod
    def of(cls, module: nn.ConvTranspose2d) -> ConvTranspose2d:
        """A module with the same parameters, not copies of them."""
        return _with_parameters(cls, module)

    def forward(self, input: Tensor, output_size: Optional[list[int]] = None) -> Tensor:
        if output_size is not None or input.dim() != 4 or not _ours(input, self.weight, self.bias):
            by_torch: Tensor = super().forward(input, output_size)
            return by_torch
        window = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return conv_transpose2d(input, self.weight, self.bias, *window)


def _with_parameters(cls: Any, module: nn.Module) -> Any:
    """A module of another class with the same state, without running its constructor."""
    new = cls.__new__(cls)
    new.__dict__.update(module.__dict__)
    for name in ("_parameters", "_buffers", "_modules"):
        setattr(new, name, getattr(module, name).copy())
    return new


def trainable(model: nn.Module) -> nn.Module:
    """Replaces the convolutions of ``model`` by ``Conv2d`` and ``ConvTranspose2d`` with the same parameters.

    It changes the model in place and returns it, or its replacement if it is a convolution itself. Optimizers and hooks of
    the model stay valid. Subclasses of PyTorch's convolutions stay as they are.
    """
    replacements: dict[type, Any] = {nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}
    if type(model) in replacements:
        replaced: nn.Module = replacements[type(model)].of(model)
        return replaced
    done: dict[int, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and type(child) in replacements:
                setattr(parent, name, done.setdefault(id(child), replacements[type(child)].of(child)))
    return model
