"""``optimize``: a copy of a model whose convolutions are this library's."""

from __future__ import annotations

import copy
import operator
import warnings
from typing import Any, Callable

from torch import fx, nn

from ._torch_fuse import convolution, fuse
from ._torch_segments import segment


def optimize(model: nn.Module) -> nn.Module:
    """Returns a copy of ``model`` for inference, in which this library computes the convolutions.

    The model is traced with ``torch.fx``. Batch norms are folded into the convolutions before them, and activations
    and residual sums are fused. A model that cannot be traced keeps its structure: its ``nn.Conv2d`` and
    ``nn.Conv1d`` modules are replaced one by one, and a warning says why.

    The copy is in evaluation mode and has parameters of its own, under other names than the model's. Tensors that are
    not float32 on the CPU, and tensors that need gradients, are computed by PyTorch inside the same modules.

    Raises ``TypeError`` if ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    model = copy.deepcopy(model).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    alone = convolution(model)
    if alone is not None:
        return alone.eval()
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # Tracing runs the model's code, which can raise anything.
        warnings.warn(f"only modules are replaced, because torch.fx cannot trace the model: {error}", stacklevel=2)
        _replace(model)
        return model
    fuse(traced)
    return segment(traced).eval()


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


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        replacement = convolution(child)
        if replacement is None:
            _replace(child)
        else:
            setattr(module, name, replacement.eval())
