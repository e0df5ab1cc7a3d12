"""NumPy arrays and PyTorch tensors, without importing PyTorch."""

from __future__ import annotations

import sys
from typing import Any, Callable

import numpy as np

from ._arguments import MOST_THREADS


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a tensor of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_numpy(name: str, value: Any, also_bytes: bool = False) -> np.ndarray:
    """The array itself, or the memory of a tensor on the CPU, which is float32 or, if allowed, uint8."""
    if isinstance(value, np.ndarray):
        return value
    if is_tensor(value):
        return _memory_of(name, value, also_bytes)
    raise TypeError(f"{name}: expected a numpy array or a tensor of PyTorch, got {type(value).__name__}")


def _memory_of(name: str, tensor: Any, also_bytes: bool) -> np.ndarray:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}; move it with .cpu()")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {tensor.layout}")
    if tensor.dtype != torch.float32 and not (also_bytes and tensor.dtype == torch.uint8):
        raise TypeError(f"{name}: expected dtype float32, got {tensor.dtype}; convert it with .float()")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name}: expected a tensor without gradients, because a plan computes none; "
            "use convkernels.torch.conv2d, or torch.inference_mode()"
        )
    if torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None:
        raise ValueError(f"{name}: expected a tensor without a tangent, because a plan computes none")
    memory: np.ndarray = tensor.detach().resolve_neg().numpy()
    return memory


def like(value: Any) -> Callable[[np.ndarray], Any]:
    """How to return a result to a caller who passed ``value``."""
    return sys.modules["torch"].from_numpy if is_tensor(value) else _itself


def _itself(array: np.ndarray) -> np.ndarray:
    return array


def default_threads(value: Any, cores: Callable[[], int]) -> int:
    """PyTorch's number of threads for its tensors, else ``cores()``."""
    return min(sys.modules["torch"].get_num_threads(), MOST_THREADS) if is_tensor(value) else cores()
