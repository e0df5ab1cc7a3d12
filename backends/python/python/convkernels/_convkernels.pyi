"""The native module. Use ``convkernels`` instead: it checks arguments."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from ._arguments import Window
from ._images import Rule

__all__ = [
    "Plan",
    "Program",
    "__version__",
    "count",
    "filter",
    "input_gradient",
    "pool",
    "transposed",
    "weight_gradient",
]

__version__: str

_Float32 = npt.NDArray[np.float32]
_Named = tuple[str, list[float]]
_Shape = tuple[int, int, int, int]
_Common = tuple[Window, int, int]

@final
class Plan:
    def __new__(
        cls,
        weight: _Float32,
        per_channel: tuple[_Float32 | None, _Float32 | None],
        window: Window,
        groups: int,
        activation: _Named | None,
        numerics: str,
    ) -> Plan: ...
    def run(self, x: _Float32, out: _Float32 | None, residual: _Float32 | None, threads: int) -> _Float32: ...
    def explain(self, shape: _Shape, threads: int) -> str: ...
    def output_shape(self, shape: _Shape) -> _Shape: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def planned(self) -> int: ...

@final
class Program:
    def __new__(cls, inputs: int, layers: Sequence[Any], outputs: Sequence[int]) -> Program: ...
    def run(self, inputs: Sequence[_Float32], threads: int) -> list[_Float32]: ...

def count(name: str, input: list[int] | None, batch: int) -> dict[str, Any]: ...
def filter(image: _Float32, kernel: _Float32, rule: Rule, threads: int) -> _Float32: ...
def input_gradient(gradient: _Float32, weight: _Float32, size: _Shape, common: _Common) -> _Float32: ...
def pool(
    x: _Float32,
    kind: str,
    window: tuple[int, int] | None,
    steps: Window,
    ceil_mode: bool,
    threads: int,
) -> _Float32: ...
def transposed(
    x: _Float32, weight: _Float32, bias: _Float32 | None, output_padding: tuple[int, int], common: _Common
) -> _Float32: ...
def weight_gradient(
    x: _Float32, gradient: _Float32, size: _Shape, bias: bool, common: _Common
) -> tuple[_Float32, _Float32 | None]: ...
