"""Modules of an optimized model."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._arguments import MOST_THREADS, Window, pair
from ._convkernels import Plan, pool

Named = tuple[str, list[float]]

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "clip": torch.clamp,
}


def runs_here(*tensors: Optional[Tensor]) -> bool:
    """Whether the library computes with these tensors: float32 on the CPU, without gradients, not being traced."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    if is_transformed():
        return False
    grad = torch.is_grad_enabled()
    for x in tensors:
        if x is None:
            continue
        plain = type(x) is Tensor or type(x) is nn.Parameter
        if not plain or x.dtype != torch.float32 or not x.is_cpu or x.layout != torch.strided or x.numel() == 0:
            return False
        if (grad and x.requires_grad) or x.is_neg():
            return False
    return True


def is_transformed() -> bool:
    """Whether PyTorch computes tangents, or a function inside ``torch.func`` (``vmap``, ``jvp``, ``grad``).

    Both are private names of PyTorch. A version without them has no such state that could be read.
    """
    level = getattr(torch.autograd.forward_ad, "_current_level", -1)
    stack = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", None)
    return level >= 0 or (stack is not None and stack() is not None)


def number_of_threads() -> int:
    """PyTorch's number of threads, up to the most that a pool of this library has."""
    return min(torch.get_num_threads(), MOST_THREADS)


class Convolution(nn.Module):
    """A convolution with everything that is fused into it: ``activation(conv(x) + bias + residual)``.

    Its weights are parameters without gradients. It packs them at the first call, and again after they have
    changed; a change through ``.data``, which PyTorch does not count, is not seen. It calls PyTorch for tensors of
    other dtypes or devices, tensors that need gradients, and empty ones.
    """

    bias: Optional[nn.Parameter]
    slopes: Optional[nn.Parameter]
    numerics: str = "default"
    """How much rounding error the library's algorithms and products can add: see ``ConvPlan``."""

    def __init__(
        self,
        weight: Tensor,
        bias: Optional[Tensor],
        window: Window,
        groups: int,
        activation: Optional[Named] = None,
        slopes: Optional[Tensor] = None,
    ) -> None:
        super().__init__()
        self.weight = parameter(weight)
        for name, value in (("bias", bias), ("slopes", slopes)):
            self.register_parameter(name, None if value is None else parameter(value))
        self.window, self.groups, self.activation = window, groups, activation
        # One attribute, because several threads can call the module.
        self._packed: Optional[tuple[Plan, list[Optional[_Kept]]]] = None

    def forward(self, input: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        # Other numbers of dimensions are left to PyTorch, and so are its words for an error.
        fits = input.dim() == self.weight.dim() and (residual is None or residual.dim() == input.dim())
        plan = self.current_plan() if fits and runs_here(input, residual) else None
        if plan is None:
            return self._by_torch(input, residual)
        one = self.weight.dim() == 3
        x = input.unsqueeze(2) if one else input
        added = residual.unsqueeze(2) if one and residual is not None else residual
        if added is not None and not self._is_output(plan, x, added):
            return self._by_torch(input, residual)
        memory = None if added is None else added.detach().numpy()
        y = torch.from_numpy(plan.run(x.detach().numpy(), None, memory, number_of_threads()))
        return y[:, :, 0] if one else y

    @staticmethod
    def _is_output(plan: Plan, x: Tensor, residual: Tensor) -> bool:
        """Whether the residual has the shape of the output, rather than one that broadcasts to it."""
        try:
            return tuple(residual.shape) == plan.output_shape(tuple(x.shape))  # type: ignore[arg-type]
        except ValueError:
            return False

    def current_plan(self) -> Optional[Plan]:
        """The plan for the present weights; ``None`` if the library does not compute with them."""
        tensors = (self.weight, self.bias, self.slopes)
        packed = self._packed
        if packed is not None and all(map(_is_kept, tensors, packed[1])):
            return packed[0]
        self._packed = None  # The memory of weights that are gone is freed first.
        if not runs_here(*tensors):
            return None
        kept = [None if x is None else _Kept.of(x) for x in tensors]
        weight, bias, slopes = (None if x is None else x.memory.contiguous().numpy() for x in kept)
        assert weight is not None
        filters = weight[:, :, None] if self.weight.dim() == 3 else weight
        plan = Plan(filters, (bias, slopes), self.window, self.groups, self.activation, self.numerics)
        self._packed = plan, kept
        return plan

    @property
    def plan(self) -> Optional[Plan]:
        """The plan of the last call; ``None`` before the first one, and if PyTorch computed it."""
        packed = self._packed
        return None if packed is None else packed[0]

    def _by_torch(self, x: Tensor, residual: Optional[Tensor]) -> Tensor:
        (top, bottom, left, right) = self.window.padding
        stride, dilation = self.window.stride, self.window.dilation
        if self.weight.dim() == 3:
            if left != right:
                x, left = functional.pad(x, (left, right)), 0
            y = functional.conv1d(x, self.weight, self.bias, stride[1:], left, dilation[1:], self.groups)
        else:
            padding: Any = (top, left)
            if top != bottom or left != right:
                x, padding = functional.pad(x, (left, right, top, bottom)), 0
            y = functional.conv2d(x, self.weight, self.bias, stride, padding, dilation, self.groups)
        return self._activate(y if residual is None else y + residual)

    def _activate(self, y: Tensor) -> Tensor:
        if self.activation is None:
            return y
        name, numbers = self.activation
        if self.slopes is not None:
            return functional.prelu(y, self.slopes)
        return _ACTIVATIONS[name](y, *numbers)

    def _apply(self, *arguments: Any, **named: Any) -> Convolution:
        # `to`, `double` and others. The packed weights are of no use for another dtype or device.
        self._packed = None
        super()._apply(*arguments, **named)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def extra_repr(self) -> str:
        fused = "" if self.activation is None else f", {self.activation[0]}"
        return f"{'x'.join(map(str, self.weight.shape))}, {self.window}, groups={self.groups}{fused}"


class MaxPool2d(nn.MaxPool2d):
    """PyTorch's max pooling, computed by the library for the tensors that ``Convolution`` computes."""

    @classmethod
    def of(cls, module: nn.MaxPool2d) -> MaxPool2d:
        """The same pooling."""
        return cls(module.kernel_size, module.stride, module.padding, module.dilation, False, module.ceil_mode)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 4 or not runs_here(input):
            pooled: Tensor = super().forward(input)
            return pooled
        kernel, threads = pair("kernel_size", self.kernel_size, 1), number_of_threads()
        return torch.from_numpy(pool(input.detach().numpy(), "max", kernel, self.window(), self.ceil_mode, threads))

    def window(self) -> Window:
        """Stride, padding and dilation."""
        rows, columns = pair("padding", self.padding, 0)
        return Window(
            pair("stride", self.stride, 1), (rows, rows, columns, columns), pair("dilation", self.dilation, 1)
        )


def parameter(x: Tensor) -> nn.Parameter:
    """A parameter without gradients. Its changes are counted, also if ``x`` was made in inference mode."""
    with torch.inference_mode(False):
        return nn.Parameter(x.clone() if x.is_inference() else x.detach(), requires_grad=False)


class _Kept(NamedTuple):
    """A tensor whose numbers are packed, as it was then."""

    tensor: Tensor
    memory: Tensor
    """The numbers. They keep the memory alive, so that no other tensor gets its address."""
    place: tuple[Any, ...]
    version: Optional[int]
    """PyTorch's number of changes; ``None`` for a tensor made in inference mode, of which ``memory`` is a copy."""

    @classmethod
    def of(cls, x: Tensor) -> _Kept:
        if x.is_inference():
            return cls(x, x.clone(), (), None)
        return cls(x, x.detach(), _place(x), x._version)


def _place(x: Tensor) -> tuple[Any, ...]:
    return x.data_ptr(), x.shape, x.stride(), x.dtype


def _is_kept(x: Optional[Tensor], kept: Optional[_Kept]) -> bool:
    """Whether the tensor is the packed one and has not changed."""
    if x is None or kept is None:
        return x is None and kept is None
    if x is not kept.tensor or (x.requires_grad and torch.is_grad_enabled()):
        return False
    if kept.version is not None:
        return x._version == kept.version and _place(x) == kept.place
    # PyTorch does not count the changes. The bits are compared, because a NaN differs from itself.
    same_kind = x.dtype == kept.memory.dtype and x.shape == kept.memory.shape
    return same_kind and torch.equal(x.view(torch.int32), kept.memory.view(torch.int32))
