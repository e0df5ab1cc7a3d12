"""``ConvPlan``: a convolution with packed weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arguments
from . import _arrays as arrays
from ._convkernels import Plan


class ConvPlan:
    """A convolution whose weights are packed once, for inputs of any batch and image size.

    ``weight`` has the shape ``(O, C / groups, KH, KW)``, or ``(O, C / groups, K)`` for a convolution in one
    dimension. ``bias`` has the shape ``(O,)``. Both are float32 and are copied. The other arguments are those of
    ``torch.nn.Conv2d``; padding can be ints, ``'same'`` or ``'valid'``.

    ``activation`` is applied to each sum: ``'relu'``, ``'relu6'``, ``'sigmoid'``, ``'tanh'``, ``'silu'``,
    ``'hardswish'``, ``('leaky_relu', alpha)``, ``('elu', alpha)``, ``('clip', lo, hi)`` or ``('prelu', slopes)``.
    ``numerics`` is ``'strict'``, ``'default'``, ``'fast'``, ``'tf32'`` or ``'bf16'``: how much rounding error an
    algorithm and its products can add. Arrays are float32 with each of them.
    ``threads=None`` stands for the cores that the process can use, and for tensors for PyTorch's number of threads.

    A plan is immutable. Any number of threads can call it at the same time. It can be pickled and copied.
    """

    __slots__ = ("_arguments", "_channels", "_kernel", "_one", "_plan", "_threads")

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        activation: arguments.Activation = None,
        numerics: str = "default",
        threads: int | None = None,
    ) -> None:
        weight = _copy("weight", weight)
        bias = None if bias is None else _vector("bias", bias)
        self._one = weight.ndim == 3
        if self._one:
            window = arguments.window1d(weight.shape[2], stride, padding, dilation)
        elif weight.ndim == 4:
            window = arguments.window(weight.shape[2:], stride, padding, dilation)
        else:
            raise ValueError(f"weight: expected 3 or 4 dimensions, got shape {weight.shape}")
        named, slopes = arguments.activation(activation)
        if slopes is not None:
            slopes = _vector("slopes", slopes)
            activation = ("prelu", slopes)
        numerics = arguments.numerics(numerics)
        groups = arguments.integer("groups", groups, 1)
        self._threads = None if threads is None else arguments.threads(threads)
        filters = weight[:, :, None, :] if self._one else weight
        self._plan = Plan(filters, (bias, slopes), window, groups, named, numerics)
        self._channels = weight.shape[1] * groups
        self._kernel = weight.shape
        # What makes the same plan again, for pickling. The native plan reads the same memory.
        self._arguments = (weight, bias, stride, padding, dilation, groups, activation, numerics, threads)

    def __call__(self, x: Any, out: Any = None, *, residual: Any = None) -> Any:
        """Convolves ``x``, of shape ``(N, C, H, W)`` or ``(C, H, W)``; in one dimension ``(N, C, L)`` or ``(C, L)``.

        A float32 array in C order is read in place. So is one whose memory is channels-last, and then the result
        is channels-last as well. Any other array is copied once. The result is what ``x`` is: an array or a
        tensor. ``out`` is written and returned. It must have the shape and the memory order of the result and
        must not overlap ``x``. ``residual`` has the shape of the result and is added before the activation.

        Raises ``TypeError`` for other objects and dtypes, ``ValueError`` for shapes that do not fit, and
        ``MemoryError``.
        """
        threads = self._threads
        if threads is None:
            threads = arrays.default_threads(x, arguments.cores)
        back = arrays.like(x)
        array = arrays.as_numpy("x", x)
        added = self._added_axes(array.ndim)
        result = self._plan.run(
            array[added],
            None if out is None else self._expanded("out", out, array.ndim)[added],
            None if residual is None else self._expanded("residual", residual, array.ndim)[added],
            threads,
        )
        return out if out is not None else back(result[tuple(0 if axis is None else slice(None) for axis in added)])

    def _added_axes(self, dimensions: int) -> tuple[Any, ...]:
        """The index that adds a batch and a row to an array of so many dimensions, where they are missing."""
        rest = slice(None)
        most = 3 if self._one else 4
        if dimensions not in (most - 1, most):
            raise ValueError(f"x: expected {most} dimensions, or {most - 1} without a batch, got {dimensions}")
        rows = (None, rest) if self._one else (rest, rest)
        return (rest if dimensions == most else None, rest, *rows)

    @staticmethod
    def _expanded(name: str, value: Any, dimensions: int) -> np.ndarray:
        array = arrays.as_numpy(name, value)
        if array.ndim != dimensions:
            raise ValueError(f"{name}: expected {dimensions} dimensions as x, got {array.ndim}")
        return array

    def explain(self, shape: tuple[int, ...], threads: int | None = None) -> str:
        """The algorithm for inputs of ``shape``, why it was chosen, and the reasons against the others.

        An algorithm that computes with other products than those of float32 has their name behind its own:
        ``direct+bf16x3``.
        """
        number = arguments.threads(self._threads if threads is None else threads)
        return self._plan.explain(self._four(shape), number)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result for an input of ``shape``, which includes the batch."""
        n, c, h, w = self._plan.output_shape(self._four(shape))
        return (n, c, w) if self._one else (n, c, h, w)

    def _four(self, shape: Any) -> tuple[int, int, int, int]:
        extents = arguments.shape("shape", shape, 3 if self._one else 4)
        return (extents[0], extents[1], 1, extents[2]) if self._one else extents  # type: ignore[return-value]

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weights. A plan packs them when it runs for the first time."""
        return self._plan.packed_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def __repr__(self) -> str:
        names = ("stride", "padding", "dilation", "groups", "activation", "numerics", "threads")
        defaults = (1, 0, 1, 1, None, "default", None)
        given = zip(names, self._arguments[2:], defaults)
        shown = "".join(f", {name}={_short(value)}" for name, value, default in given if value != default)
        bias = "" if self._arguments[1] is None else ", bias"
        return f"ConvPlan({'x'.join(map(str, self._kernel))}{bias}{shown})"


def _short(value: Any) -> str:
    """Without the slopes of PReLU."""
    return "'prelu'" if isinstance(value, tuple) and value and value[0] == "prelu" else repr(value)


def _copy(name: str, value: Any) -> np.ndarray:
    """A private copy in C order that nobody can write."""
    array = arrays.as_numpy(name, value)
    if array.dtype != np.float32:
        raise TypeError(f"{name}: expected dtype float32, got {array.dtype}; convert it with astype(numpy.float32)")
    copy = np.array(array, dtype=np.float32, order="C", copy=True, subok=False)
    copy.flags.writeable = False
    return copy


def _vector(name: str, value: Any) -> np.ndarray:
    copy = _copy(name, value)
    if copy.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got shape {copy.shape}")
    return copy
