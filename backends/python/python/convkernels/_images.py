"""Filters of images: SciPy's ``convolve2d`` and OpenCV's ``filter2D``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from . import _arrays as arrays
from ._convkernels import filter as _filter


class Rule(NamedTuple):
    """How a kernel is applied, as the native module takes it."""

    mode: str
    border: tuple[str, float]
    anchor: tuple[int, int] | None
    """Row and column."""
    flip: bool
    separable: bool
    """Whether a kernel that is a column times a row is applied as two passes."""


# SciPy's boundaries under the names of OpenCV's borders.
_BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "reflect"}
# OpenCV's constants, cv2.BORDER_CONSTANT and so on.
_BORDERS = ("constant", "replicate", "reflect", "wrap", "reflect_101")


def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: float = 0,
    *,
    separable: bool = True,
    threads: int | None = None,
) -> Any:
    """``scipy.signal.convolve2d`` for float32 arrays and tensors: the kernel ``in2`` is flipped.

    The result is float32 and has the shape that SciPy gives it. ``'same'`` is centred in ``'full'`` and has the shape
    of ``in1``. In mode ``'valid'`` one of the arrays must be at least as large as the other on both axes. A kernel
    that is a column times a row is applied as two passes, unless ``separable=False``.

    An infinite or NaN pixel reaches every output that reads it. Two passes, and the Fourier transforms that large kernels
    use, spoil outputs beside those too.

    Other dtypes are refused: SciPy computes in the dtype of its inputs, and this library in float32 only.

    Raises ``TypeError`` for other objects and dtypes, ``ValueError`` for arguments that do not fit, ``MemoryError``.
    """
    image, kernel = _matrix("in1", in1), _matrix("in2", in2)
    name = _BOUNDARIES.get(boundary) if isinstance(boundary, str) else None
    if name is None:
        raise ValueError(f"boundary: expected 'fill', 'wrap' or 'symm', got {arguments.shown(boundary)}")
    value = _number("fillvalue", fillvalue)
    mode = _text("mode", mode)
    if mode == "valid" and any(k > n for k, n in zip(kernel.shape, image.shape)):
        image, kernel = kernel, image
    number = _threads(threads, in1)
    result = _filter(image, kernel, Rule(mode, (name, value), None, True, _bool("separable", separable)), number)
    return arrays.like(in1)(result)


def filter2D(
    src: Any,
    kernel: Any,
    anchor: tuple[int, int] | None = None,
    border: str | int = "reflect_101",
    *,
    value: float = 0,
    separable: bool = True,
    threads: int | None = None,
) -> Any:
    """OpenCV's ``filter2D``: the correlation of an image with a kernel, which is not flipped.

    ``src`` has the shape ``(H, W)`` or ``(H, W, C)`` and is a float32 or uint8 array or tensor. The result has its shape and dtype. A
    uint8 image is computed in float32; the result is rounded to the nearest integer, ties to even, and limited to
    0 to 255, which is what OpenCV does with ``ddepth=-1``. ``kernel`` is a float32 matrix.

    ``anchor`` is the ``(x, y)`` of the kernel's element that lies on the output's pixel, by default the centre
    ``(KW // 2, KH // 2)``; -1 stands for the centre of its axis. ``border`` is ``'reflect_101'``, ``'reflect'``, ``'replicate'``, ``'wrap'``, ``'constant'``
    (with ``value``), or one of OpenCV's constants for them. A kernel that is a column times a row is applied as two
    passes, unless ``separable=False``. An infinite or NaN pixel can spoil outputs beside those that read it, as in
    ``convolve2d``.

    Raises ``TypeError`` for other objects and dtypes, ``ValueError`` for arguments that do not fit, ``MemoryError``.
    """
    image = arrays.as_numpy("src", src, also_bytes=True)
    bytes_ = image.dtype == np.uint8
    if image.ndim not in (2, 3):
        raise ValueError(f"src: expected shape (H, W) or (H, W, C), got {image.shape}")
    taps = _matrix("kernel", kernel)
    place = None if anchor is None else _place(anchor, taps)
    outside = _border(border), _number("value", value)
    rule = Rule("same", outside, place, False, _bool("separable", separable))
    result = _filter(image.astype(np.float32) if bytes_ else image, taps, rule, _threads(threads, src))
    if bytes_:
        # NaN becomes 0, as in OpenCV.
        limited = np.fmin(np.fmax(np.rint(result, out=result), 0, out=result), 255, out=result)
        result = limited.astype(np.uint8)
    return arrays.like(src)(result)


def _place(anchor: Any, kernel: np.ndarray) -> tuple[int, int]:
    """Row and column of OpenCV's ``(x, y)``, in which -1 is the centre."""
    columns, rows = arguments.pair("anchor", anchor, -1)
    height, width = kernel.shape
    return height // 2 if rows < 0 else rows, width // 2 if columns < 0 else columns


def _matrix(name: str, value: Any) -> np.ndarray:
    array = arrays.as_numpy(name, value)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions, got shape {array.shape}")
    if array.dtype != np.float32:
        raise TypeError(f"{name}: expected dtype float32, got {array.dtype}; convert it with astype(numpy.float32)")
    return array


def _border(border: str | int) -> str:
    if isinstance(border, str):
        return border
    number = arguments.integer("border", border, 0)
    if number >= len(_BORDERS):
        raise ValueError(f"border: expected a name or a constant of OpenCV from 0 to 4, got {number}")
    return _BORDERS[number]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {arguments.shown(value)}")
    return value


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a bool, got {arguments.shown(value)}")
    return bool(value)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {arguments.shown(value)}") from None


def _threads(threads: Any, like: Any) -> int:
    if threads is None:
        return arrays.default_threads(like, arguments.cores)
    return arguments.threads(threads)
