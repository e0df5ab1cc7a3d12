"""``optimize``: a copy of a model whose convolutions are this library's."""

from __future__ import annotations

import copy
import operator
import warnings
from typing import Any, Callable

import torch
from torch import fx, nn

from . import _arguments as arguments
from ._torch_fuse import changed, changes_in_place, convolution, fuse, has_hooks
from ._torch_modules import Convolution
from ._torch_segments import segment

# What a module that is replaced alone still tells about itself.
_ATTRIBUTES = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
# They return new tensors, never a view of the first operand. PyTorch calls methods for operators of a real tensor.
_NEW = {operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, "add", "sub", "mul", "div", "pow"}


def optimize(model: nn.Module, *, numerics: str = "default") -> nn.Module:
    """Returns a copy of ``model`` for inference, in which this library computes the convolutions.

    The model is traced with ``torch.fx``. Batch norms are folded into the convolutions before them, and activations
    and residual sums are fused. A model that cannot be traced keeps its structure: its ``nn.Conv2d`` and
    ``nn.Conv1d`` modules are replaced one by one, and a warning says why. So does a model with hooks of its own, and
    one that changes tensors which it makes itself. A module with hooks keeps its structure inside another model.

    The copy is in evaluation mode and has parameters of its own, under other names than the model's. Tensors that are
    not float32 on the CPU, and tensors that need gradients, are computed by PyTorch inside the same modules.

    ``numerics`` is that of ``ConvPlan``, for each of the convolutions. Parameters and results are float32 with every
    level.

    Raises ``TypeError`` if ``model`` is not a module, and ``ValueError`` for an unknown level.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    numerics = arguments.numerics(numerics)
    optimized = _optimized(model)
    for module in optimized.modules():
        if isinstance(module, Convolution):
            module.numerics = numerics
    return optimized


def _optimized(model: nn.Module) -> nn.Module:
    # Tensors made in inference mode do not count their changes.
    with torch.inference_mode(False), torch.no_grad():
        alone = convolution(model)
        if alone is not None:
            return convolution(_copy(model)).eval()  # type: ignore[union-attr]
        try:
            traced = _trace(_copy(model))
        except Exception as error:  # Tracing runs the model's code, which can raise anything.
            warnings.warn(f"only modules are replaced, because torch.fx cannot trace the model: {error}", stacklevel=3)
            # Another copy: tracing can have left its traces in the first one.
            model = _copy(model)
            _replace(model)
            return model
        fuse(traced)
        return segment(traced).eval()


def _copy(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


class _Untraceable(Exception):
    """The model can be traced, but its graph would compute something else."""


def _trace(model: nn.Module) -> fx.GraphModule:
    """The model's graph. Raises what the model raises, and ``_Untraceable``."""
    if has_hooks(model):
        raise _Untraceable("it has hooks, which a trace does not record")
    known = set(vars(model))
    graph = _Tracer().trace(model)
    traced = fx.GraphModule(model, graph)
    modules = dict(traced.named_modules())
    if _changes_constants(graph, set(vars(model)) - known, modules):
        raise _Untraceable("it changes a tensor that it makes itself, and all calls would share that tensor")
    for node in graph.nodes:
        if node.op == "call_module" and has_hooks(modules[node.target]):
            _replace(modules[node.target])
    return traced


def _changes_constants(graph: fx.Graph, constants: set[str], modules: dict[str, nn.Module]) -> bool:
    """Whether the graph changes one of the constants: tensors that the model made while it was traced."""
    shared: set[Any] = {node for node in graph.nodes if node.op == "get_attr" and node.target in constants}
    for node in graph.nodes:
        if node.op not in ("call_function", "call_method", "call_module") or changed(node) not in shared:
            continue
        if changes_in_place(node, modules):
            return True
        # It can be a view.
        if node.target not in _NEW:
            shared.add(node)
    return False


class _Proxy(fx.Proxy):
    """Records ``x += y`` as a change of ``x``. A plain proxy records ``x = x + y``, and other names for ``x`` would
    keep the old values."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.itruediv, other)

    def _changed(self, function: Callable[[Any, Any], Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Hooks run when a module is called, so that one with hooks must stay a module."""
        return has_hooks(module) or super().is_leaf_module(module, name)


def _replace(module: nn.Module) -> None:
    """Replaces the convolutions inside the module, one by one."""
    for name, child in module.named_children():
        replacement = convolution(child)
        if replacement is None:
            _replace(child)
        else:
            for attribute in _ATTRIBUTES:
                setattr(replacement, attribute, getattr(child, attribute))
            setattr(module, name, replacement.eval())
