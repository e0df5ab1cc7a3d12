"""What needs PyTorch: ``optimize`` for whole models, and a registered operator with gradients."""

from __future__ import annotations

from ._torch_modules import Convolution
from ._torch_operator import conv1d, conv2d
from ._torch_optimize import optimize

__all__ = ["Convolution", "conv1d", "conv2d", "optimize"]
