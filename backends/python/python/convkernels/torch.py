"""What needs PyTorch: ``optimize`` for inference, ``trainable`` for training, and operators with gradients."""

from __future__ import annotations

from ._torch_functional import conv1d, conv2d, conv_transpose2d
from ._torch_modules import Convolution
from ._torch_optimize import optimize
from ._torch_training import Conv2d, ConvTranspose2d, trainable

__all__ = [
    "Conv2d",
    "ConvTranspose2d",
    "Convolution",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "optimize",
    "trainable",
]
