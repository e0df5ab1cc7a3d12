"""Checks of arguments, with one form for each as the result."""

from __future__ import annotations

import operator
import os
import reprlib
import sys
from typing import Any, NamedTuple, Union

import numpy as np

MOST_THREADS = 256
"""A pool of the native module has no more."""

NUMERICS = ("strict", "default", "fast", "tf32", "bf16")
"""The levels of rounding errors, the strictest first."""

Pair = tuple[int, int]
IntOrPair = Union[int, Pair]
Padding = Union[int, Pair, str]
Activation = Union[None, str, tuple[Any, ...]]


class Window(NamedTuple):
    """Stride, padding (top, bottom, left, right) and dilation, as the native module takes them."""

    stride: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair


def shown(value: Any) -> str:
    """``repr(value)``, short, also of objects whose ``repr`` fails."""
    try:
        return reprlib.repr(value)
    except Exception:
        return f"an object of type {type(value).__name__}"


def integer(name: str, value: Any, least: int) -> int:
    """``value`` as an int of at least ``least``. A float is not one, nor is a bool."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an int, got {value}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {shown(value)}") from None
    if not least <= number <= sys.maxsize:
        raise ValueError(f"{name}: expected an int from {least} to {sys.maxsize}, got {shown(number)}")
    return number


def pair(name: str, value: Any, least: int) -> Pair:
    """An int stands for both rows and columns."""
    if not isinstance(value, (tuple, list)):
        number = integer(name, value, least)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{name}: expected an int or 2 of them, got {len(value)}")
    return integer(name, value[0], least), integer(name, value[1], least)


def single(name: str, value: Any, least: int) -> int:
    """An int, or a sequence of one."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"{name}: expected an int or 1 of them, got {len(value)}")
        value = value[0]
    return integer(name, value, least)


def window(kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any) -> Window:
    """The window of a convolution in two dimensions."""
    strides, dilations = pair("stride", stride, 1), pair("dilation", dilation, 1)
    if not isinstance(padding, str):
        rows, columns = pair("padding", padding, 0)
        return Window(strides, (rows, rows, columns, columns), dilations)
    if padding == "valid":
        return Window(strides, (0, 0, 0, 0), dilations)
    if padding != "same":
        raise ValueError(f"padding: expected ints, 'same' or 'valid', got {shown(padding)}")
    if strides != (1, 1):
        raise ValueError(f"padding: expected ints for a stride other than 1, got 'same' with stride {strides}")
    rows, columns = (integer("padding", d * (k - 1), 0) for d, k in zip(dilations, kernel))
    # An odd element is added at the end, as PyTorch does.
    return Window(strides, (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2), dilations)


def window1d(kernel: int, stride: Any, padding: Any, dilation: Any) -> Window:
    """The window of a convolution in one dimension, as one with a single row."""
    strides, dilations = (1, single("stride", stride, 1)), (1, single("dilation", dilation, 1))
    if not isinstance(padding, str):
        padding = (0, single("padding", padding, 0))
    return window((1, kernel), strides, padding, dilations)


def activation(value: Any) -> tuple[tuple[str, list[float]] | None, Any]:
    """The name with its numbers, and the slopes of PReLU."""
    if value is None:
        return None, None
    name, *numbers = value if isinstance(value, tuple) and value else (value,)
    if not isinstance(name, str):
        raise TypeError(f"activation: expected None, a name or a tuple of a name and numbers, got {shown(value)}")
    if name == "prelu" and len(numbers) == 1:
        return (name, []), numbers[0]
    try:
        return (name, [float(number) for number in numbers]), None
    except (TypeError, ValueError):
        raise TypeError(f"activation: expected numbers after the name, got {shown(numbers)}") from None


def numerics(value: Any) -> str:
    """The name of a level of rounding errors."""
    words = f"numerics: expected one of {', '.join(map(repr, NUMERICS))}, got {shown(value)}"
    if not isinstance(value, str):
        raise TypeError(words)
    if value not in NUMERICS:
        raise ValueError(words)
    return value


def shape(name: str, value: Any, dimensions: int) -> tuple[int, ...]:
    """A shape of ``dimensions`` extents of at least 1."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected a tuple of {dimensions} ints, got {shown(value)}")
    if len(value) != dimensions:
        raise ValueError(f"{name}: expected {dimensions} extents, got {len(value)}")
    return tuple(integer(name, extent, 1) for extent in value)


def threads(value: Any) -> int:
    """The number of threads; ``None`` stands for the cores that the process can use."""
    return cores() if value is None else integer("threads", value, 1)


def cores() -> int:
    """The cores that the process can use, at most ``MOST_THREADS``."""
    affinity = getattr(os, "sched_getaffinity", None)
    number = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(number, MOST_THREADS))
