"""Modules of an optimized model."""

from __future__ import annotations

from typing import Any, Callable, Optional

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


def number_of_threads() -> int:
    """PyTorch's number of threads, up to the most that a pool of this library has."""
    return min(torch.get_num_threads(), MOST_THREADS)


class Convolution(nn.Module):
    """A convolution with everything that is fused into it: ``activation(conv(x) + bias + residual)``.

    Its weights are parameters without gradients. It packs them at the first call, and again after they have
    changed; a change through ``.data``, which PyTorch does not count, is not seen. It calls PyTorch for tensors of other dtypes or devices, tensors that need gradients, and empty ones.
    """

    bias: Optional[nn.Parameter]
    slopes: Optional[nn.Parameter]

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
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        for name, value in (("bias", bias), ("slopes", slopes)):
            parameter = None if value is None else nn.Parameter(value.detach(), requires_grad=False)
            self.register_parameter(name, parameter)
        self.window, self.groups, self.activation = window, groups, activation
        self.plan: Optional[Plan] = None
        self._packed: Any = None

    def forward(self, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        if not runs_here(x, residual) or not self._fits(x):
            return self._by_torch(x, residual)
        plan = self.current_plan()
        if plan is None:
            return self._by_torch(x, residual)
        one = self.weight.dim() == 3
        threads = number_of_threads()
        x = self._four(x, one)
        added = None if residual is None else self._four(residual, one)
        if added is not None:
            if not self._is_output(plan, x, added):
                return self._by_torch(x[:, :, 0] if one else x, residual)
            # The library adds a residual of the output's memory order.
            last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
            added = added.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        memory = None if added is None else added.detach().numpy()
        y = torch.from_numpy(plan.run(x.detach().numpy(), None, memory, threads))
        return y[:, :, 0] if one else y

    def _fits(self, x: Tensor) -> bool:
        """Other numbers of dimensions are left to PyTorch, and so are its words for an error."""
        return x.dim() == self.weight.dim()

    @staticmethod
    def _four(x: Tensor, one: bool) -> Tensor:
        return x.unsqueeze(2) if one else x

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
        state = [None if x is None else (x.data_ptr(), _version(x)) for x in tensors]
        if state != self._packed:
            if not runs_here(*tensors):
                return None
            bias, slopes = (None if x is None else x.detach().contiguous().numpy() for x in tensors[1:])
            filters = self._four(self.weight.detach().contiguous(), self.weight.dim() == 3).numpy()
            self.plan = Plan(filters, (bias, slopes), self.window, self.groups, self.activation, "default")
            self._packed = state
        return self.plan

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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "plan": None, "_packed": None}

    def extra_repr(self) -> str:
        fused = "" if self.activation is None else f", {self.activation[0]}"
        return f"{'x'.join(map(str, self.weight.shape))}, {self.window}, groups={self.groups}{fused}"


class MaxPool2d(nn.MaxPool2d):
    """PyTorch's max pooling, computed by the library for the tensors that ``Convolution`` computes."""

    @classmethod
    def of(cls, module: nn.MaxPool2d) -> MaxPool2d:
        """The same pooling."""
        return cls(module.kernel_size, module.stride, module.padding, module.dilation, False, module.ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or not runs_here(x):
            pooled: Tensor = super().forward(x)
            return pooled
        kernel, threads = pair("kernel_size", self.kernel_size, 1), number_of_threads()
        return torch.from_numpy(pool(x.detach().numpy(), "max", kernel, self.window(), self.ceil_mode, threads))

    def window(self) -> Window:
        """Stride, padding and dilation."""
        rows, columns = pair("padding", self.padding, 0)
        return Window(
            pair("stride", self.stride, 1), (rows, rows, columns, columns), pair("dilation", self.dilation, 1)
        )


def _version(x: Tensor) -> int:
    """Counts changes in place. Tensors made in inference mode have no counter and cannot be changed outside."""
    return 0 if x.is_inference() else x._version
