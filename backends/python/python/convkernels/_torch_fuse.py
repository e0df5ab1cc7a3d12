"""Fuses the layers of a traced model into convolutions."""

from __future__ import annotations

import operator
from typing import Any, Optional

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from . import _arguments as arguments
from ._torch_modules import Convolution, MaxPool2d, Named, parameter

_NAMES: dict[Any, str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    torch.relu: "relu",
    functional.relu: "relu",
    functional.relu6: "relu6",
    torch.sigmoid: "sigmoid",
    functional.sigmoid: "sigmoid",
    torch.tanh: "tanh",
    functional.tanh: "tanh",
    functional.silu: "silu",
    functional.hardswish: "hardswish",
}
_METHODS = {"relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "tanh": "tanh"}
ADDS = (operator.add, operator.iadd, torch.add)

Found = Optional[tuple[Named, Optional[Tensor]]]


def convolution(module: nn.Module) -> Optional[Convolution]:
    """The module as one of this library; ``None`` if it is not a convolution that the library has."""
    if not isinstance(module, (nn.Conv1d, nn.Conv2d)) or type(module) not in (nn.Conv1d, nn.Conv2d):
        return None
    if module.padding_mode != "zeros" or module.weight.dtype != torch.float32 or has_hooks(module):
        return None
    if isinstance(module, nn.Conv1d):
        window = arguments.window1d(module.kernel_size[0], module.stride, module.padding, module.dilation)
    else:
        window = arguments.window(module.kernel_size, module.stride, module.padding, module.dilation)
    return Convolution(module.weight, module.bias, window, module.groups)


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody else's code runs before or after the module. Such a module stays as it is."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def fuse(traced: fx.GraphModule) -> int:
    """Replaces every convolution with what follows it: batch norm, a residual sum, an activation.

    Returns the number of convolutions.
    """
    modules = dict(traced.named_modules())
    number = 0
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(modules[node.target], (nn.Dropout, nn.Dropout2d, nn.Identity)):
            if not modules[node.target].training and not has_hooks(modules[node.target]):
                node.replace_all_uses_with(node.all_input_nodes[0])
                traced.graph.erase_node(node)
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            continue
        module = convolution(modules[node.target])
        if module is not None:
            _fuse_into(traced, node, module, modules, number)
            number += 1
        elif _is_max_pool(modules[node.target]):
            name, pool = f"{node.name}_pool", MaxPool2d.of(modules[node.target])
            traced.add_submodule(name, pool)
            modules[name], node.target = pool, name
    # Nodes without readers stay: some of them change a tensor in place.
    traced.delete_all_unused_submodules()
    traced.recompile()
    return number


def _is_max_pool(module: nn.Module) -> bool:
    return type(module) is nn.MaxPool2d and not module.return_indices and not has_hooks(module)


def _fuse_into(
    traced: fx.GraphModule, node: fx.Node, module: Convolution, modules: dict[str, nn.Module], number: int
) -> None:
    last, residual, place = node, None, node
    after = _only_user(last)
    if after is not None and after.op == "call_module" and _fold(module, modules[str(after.target)]):
        last, after = after, _only_user(after)
    if after is not None and _is_add(after, last):
        other = after.args[1] if after.args[0] is last else after.args[0]
        if isinstance(other, fx.Node) and other is not last and _unchanged_between(node, after, modules):
            residual, last, place, after = other, after, after, _only_user(after)
    found = None if after is None else activation(after, modules)
    if found is not None and after is not None:
        last = after
        module.activation, slopes = found
        module.slopes = None if slopes is None else parameter(slopes)
    name = f"conv{number}_{str(node.target).replace('.', '_')}"
    traced.add_submodule(name, module)
    modules[name] = module
    # The sum needs both operands. Without one the convolution stays where its input has the right values.
    with traced.graph.inserting_before(place):
        fused = traced.graph.call_module(name, (node.args[0],) if residual is None else (node.args[0], residual))
    last.replace_all_uses_with(fused)
    while last is not node:
        before = node if last is node else _input_on_the_way(last, node)
        traced.graph.erase_node(last)
        last = before
    traced.graph.erase_node(node)


def _input_on_the_way(last: fx.Node, node: fx.Node) -> fx.Node:
    """The input of ``last`` whose only user it is, on the chain that begins with ``node``."""
    for before in last.all_input_nodes:
        at: Optional[fx.Node] = node
        while at is not None and at is not last:
            if at is before:
                return before
            at = _only_user(at)
    raise AssertionError("the chain from the convolution leads here")


def _only_user(node: fx.Node) -> Optional[fx.Node]:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _fold(module: Convolution, norm: nn.Module) -> bool:
    """Folds a batch norm into the weights: ``scale * conv(x) + shift``."""
    expected = nn.BatchNorm1d if module.weight.dim() == 3 else nn.BatchNorm2d
    if (
        type(norm) is not expected
        or has_hooks(norm)
        or norm.training
        or norm.running_mean is None
        or norm.running_var is None
    ):
        return False
    # In double precision: the factor is rounded once.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    if module.bias is not None:
        shift = shift + module.bias.detach().double() * scale
    weight = module.weight.detach().double() * scale.reshape(-1, *[1] * (module.weight.dim() - 1))
    module.weight = parameter(weight.float().contiguous())
    module.bias = parameter(shift.float())
    return True


def _is_add(node: fx.Node, operand: fx.Node) -> bool:
    """Whether the node is ``operand + other``, without a factor."""
    function = node.op == "call_function" and node.target in ADDS
    method = node.op == "call_method" and node.target in ("add", "add_")
    if not (function or method) or len(node.args) != 2 or node.kwargs:
        return False
    # `other += operand` changes other, which may have other readers.
    changes = node.target in (operator.iadd, "add_")
    return node.args[0] is operand or not changes


def _unchanged_between(first: fx.Node, last: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether no node between the two changes a tensor in place, so that the convolution can run later."""
    node = first.next
    while node is not last:
        if changes_in_place(node, modules) and changed(node) is not first and not _is_on_chain(first, node):
            return False
        node = node.next
    return True


def _is_on_chain(first: fx.Node, node: fx.Node) -> bool:
    at = _only_user(first)
    while at is not None and at is not node:
        at = _only_user(at)
    return at is node


def changes_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the node can change a tensor that it reads."""
    if node.op == "call_module":
        # A hook can change what it sees.
        inside = modules[str(node.target)].modules()
        return any(getattr(module, "inplace", False) or has_hooks(module) for module in inside)
    if node.op == "call_method":
        return str(node.target).endswith("_") or node.target == "__setitem__"
    name = getattr(node.target, "__name__", "")
    in_place_operator = name in ("iadd", "isub", "imul", "itruediv", "setitem")
    out = "out" in node.kwargs
    return in_place_operator or name.endswith("_") or bool(node.kwargs.get("inplace")) or out


def changed(node: fx.Node) -> Any:
    """What the node changes, if it changes anything: its first argument, or ``out``."""
    if "out" in node.kwargs:
        return node.kwargs["out"]
    return node.args[0] if node.args else next(iter(node.kwargs.values()), None)


def activation(node: fx.Node, modules: dict[str, nn.Module]) -> Found:
    """The activation that the node computes, and its slopes."""
    if node.op == "call_module":
        return _of_module(modules[str(node.target)])
    if node.op == "call_method":
        name = _METHODS.get(str(node.target))
        return None if name is None or len(node.args) != 1 or node.kwargs else ((name, []), None)
    if node.op != "call_function" or set(node.kwargs) - {"inplace"} or len(node.args) > 2:
        return None
    if len(node.args) == 2 and not isinstance(node.args[1], bool):
        return None
    name = _NAMES.get(node.target)
    return None if name is None else ((name, []), None)


def _of_module(module: nn.Module) -> Found:
    kind = type(module)
    if has_hooks(module):
        return None
    if kind in _NAMES:
        return (_NAMES[kind], []), None
    if isinstance(module, nn.LeakyReLU) and kind is nn.LeakyReLU:
        return ("leaky_relu", [float(module.negative_slope)]), None
    if isinstance(module, nn.ELU) and kind is nn.ELU:
        return ("elu", [float(module.alpha)]), None
    if isinstance(module, nn.Hardtanh) and kind is nn.Hardtanh:
        return ("clip", [float(module.min_val), float(module.max_val)]), None
    return None
