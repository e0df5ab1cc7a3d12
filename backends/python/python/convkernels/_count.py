"""``count``: exact costs of a network, layer by layer."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from . import _arguments as arguments
from ._convkernels import count as _native


@dataclass(frozen=True)
class LayerCount:
    """The costs of one layer. All numbers except parameters are for the whole batch; shapes are for one image."""

    name: str
    op: str
    inputs: list[list[int]]
    output: list[int]
    params: int
    """Trained parameters."""
    untrained: int
    """Running statistics and fixed codes."""
    macs: int
    """Multiply-accumulates of convolutions and matrix products."""
    other_ops: int
    """Arithmetic operations of all other layers."""
    activation_bytes: int
    """Bytes of the output."""
    moved_bytes: int
    """Bytes of inputs, weights and output, each counted once."""


@dataclass(frozen=True)
class Count:
    """The costs of a network."""

    name: str
    batch: int
    params: int
    untrained: int
    macs: int
    other_ops: int
    activation_bytes: int
    peak_activation_bytes: int
    """The most bytes of activations that are live at the same time."""
    unknown_layers: int
    """Operators that the calculator does not know. If there are any, every total is a lower bound."""
    layers: list[LayerCount] = field(repr=False)

    @property
    def flops(self) -> int:
        """Floating-point operations of convolutions and matrix products: ``2 * macs``."""
        return 2 * self.macs


def count(network: str | os.PathLike[str], input: tuple[int, ...] | None = None, batch: int = 1) -> Count:
    """Counts a built-in network such as ``"resnet50"``, or an ONNX file.

    ``input`` is the shape ``(C, H, W)`` of one image, if it is not the published one or the one in the file.

    Raises ``ValueError`` for an unknown name (the text lists the known ones) and for a model that is damaged,
    ``FileNotFoundError`` and ``OSError`` for files.
    """
    name = os.fspath(network)
    if not isinstance(name, str):
        raise TypeError(f"network: expected a name or a path, got {arguments.shown(network)}")
    extents: Any = None
    if input is not None:
        if not isinstance(input, (tuple, list)):
            raise TypeError(f"input: expected a tuple of ints, got {arguments.shown(input)}")
        extents = [arguments.integer("input", extent, 1) for extent in input]
    counted = _native(name, extents, arguments.integer("batch", batch, 1))
    layers = [LayerCount(**layer) for layer in counted.pop("layers")]
    return Count(layers=layers, **counted)
