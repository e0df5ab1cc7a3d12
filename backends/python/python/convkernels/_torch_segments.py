"""Segments of a traced model that the native module runs in one call.

Inside a segment activations are in blocks of 16 channels, the library's fastest layout, and in memory that the next
run uses again.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner, Partition
from torch.fx.passes.operator_support import OperatorSupportBase

from ._arguments import Window, pair
from ._convkernels import Plan, Program
from ._torch_fuse import ADDS, activation, changes_in_place, has_hooks
from ._torch_modules import Convolution, MaxPool2d, Named, number_of_threads, runs_here

DescribedPool = tuple[str, Optional[tuple[int, int]], Window, bool]
_ANYWHERE = Window((1, 1), (0, 0, 0, 0), (1, 1))


class Step(NamedTuple):
    """A layer as the native module takes it."""

    kind: str
    inputs: list[int]
    plan: Optional[Plan] = None
    pool: Optional[DescribedPool] = None
    activation: Optional[Named] = None


class Segment(nn.Module):
    """Layers that run in one call. For tensors that the library does not compute, they run one by one."""

    def __init__(self, layers: fx.GraphModule) -> None:
        super().__init__()
        self.layers = layers
        self._program: Optional[Program] = None
        self._plans: list[Plan] = []

    def forward(self, *inputs: Tensor) -> Any:
        if not runs_here(*inputs) or any(x.dim() != 4 for x in inputs):
            return self.layers(*inputs)
        program = self._current_program()
        if program is None:
            return self.layers(*inputs)
        try:
            outputs = program.run([x.detach().numpy() for x in inputs], number_of_threads())
        except ValueError:
            # A sum that broadcasts, for example. PyTorch computes it, or says what is wrong.
            return self.layers(*inputs)
        tensors = tuple(map(torch.from_numpy, outputs))
        return tensors if self._returns_tuple() else tensors[0]

    def _returns_tuple(self) -> bool:
        return isinstance(_result(self.layers.graph), (tuple, list))

    def _current_program(self) -> Optional[Program]:
        """The program for the present weights; ``None`` if the library does not compute with them."""
        modules = [module for module in self.layers.modules() if isinstance(module, Convolution)]
        plans = [plan for plan in (module.current_plan() for module in modules) if plan is not None]
        if len(plans) < len(modules):
            return None
        if self._program is None or any(a is not b for a, b in zip(plans, self._plans)):
            steps, inputs, outputs = _describe(self.layers)
            self._program, self._plans = Program(inputs, steps, outputs), plans
        return self._program

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None, "_plans": []}


class _Supported(OperatorSupportBase):
    def is_node_supported(self, submodules: Any, node: fx.Node) -> bool:
        return _step(node, dict(submodules), {}) is not None


def segment(traced: fx.GraphModule) -> fx.GraphModule:
    """Replaces the parts of the model that the native module can run.

    A model with a layer that changes tensors in place stays as it is: another order could change its result.
    """
    modules = dict(traced.named_modules())
    if any(changes_in_place(node, modules) for node in traced.graph.nodes):
        return traced
    partitioner = CapabilityBasedPartitioner(traced, _Supported(), allows_single_node_partition=True)
    partitions = [part for part in partitioner.propose_partitions() if _is_worth_it(part, modules)]
    fused = partitioner.fuse_partitions(partitions, prefix="segment")
    for name, child in list(fused.named_children()):
        if name.startswith("segment") and isinstance(child, fx.GraphModule):
            setattr(fused, name, Segment(child))
    fused.recompile()
    return fused


def _is_worth_it(partition: Partition, modules: dict[str, nn.Module]) -> bool:
    """Whether there are at least two convolutions. One alone gains nothing."""
    kinds = [modules.get(str(node.target)) for node in partition.nodes]
    return sum(isinstance(kind, Convolution) for kind in kinds) >= 2


def _describe(layers: fx.GraphModule) -> tuple[list[Step], int, list[int]]:
    """The steps of a segment, its number of inputs and the values that it returns."""
    modules, steps = dict(layers.named_modules()), []
    values: dict[fx.Node, int] = {}
    inputs = [node for node in layers.graph.nodes if node.op == "placeholder"]
    for node in inputs:
        values[node] = len(values)
    for node in layers.graph.nodes:
        step = _step(node, modules, values)
        if step is not None:
            steps.append(step)
            values[node] = len(values)
    result = _result(layers.graph)
    outputs = result if isinstance(result, (tuple, list)) else (result,)
    return steps, len(inputs), [values[node] for node in outputs]


def _result(graph: fx.Graph) -> Any:
    return next(node for node in reversed(graph.nodes) if node.op == "output").args[0]


def _step(node: fx.Node, modules: dict[str, nn.Module], values: dict[fx.Node, int]) -> Optional[Step]:
    """The node as a step; ``None`` if the native module does not have it."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return None
    read = [values.get(x, 0) for x in node.all_input_nodes]
    if node.op == "call_module":
        module = modules.get(str(node.target))
        if isinstance(module, Convolution) and module.weight.dim() == 4:
            # Both arguments can be the same node, which is an input once.
            reads = [values.get(x, 0) for x in node.args if isinstance(x, fx.Node)]
            return Step("conv", reads, module.plan if values else None)
        pool = None if module is None else _pool(module)
        if pool is not None:
            return Step("pool", read, pool=pool)
    elif node.target in ADDS or node.target == "add":
        operands = [x for x in node.args if isinstance(x, fx.Node)]
        plain = len(node.args) == 2 and len(operands) == 2 and not node.kwargs
        return Step("add", [values.get(x, 0) for x in operands]) if plain else None
    elif node.target in (torch.cat, torch.concat) and node.args:
        return _concat(node, values)
    found = activation(node, modules)
    return Step("activate", read, activation=found[0]) if found and found[1] is None and len(read) == 1 else None


def _concat(node: fx.Node, values: dict[fx.Node, int]) -> Optional[Step]:
    parts = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if dim != 1 or not isinstance(parts, (tuple, list)) or not all(isinstance(x, fx.Node) for x in parts):
        return None
    return Step("concat", [values.get(x, 0) for x in parts])  # type: ignore[arg-type]


def _pool(module: nn.Module) -> Optional[DescribedPool]:
    if has_hooks(module):
        return None
    if isinstance(module, MaxPool2d):
        return "max", pair("kernel_size", module.kernel_size, 1), module.window(), module.ceil_mode
    if type(module) is nn.AvgPool2d and module.divisor_override is None:
        rows, columns = pair("padding", module.padding, 0)
        window = Window(pair("stride", module.stride, 1), (rows, rows, columns, columns), (1, 1))
        kind = "average_with_pad" if module.count_include_pad else "average"
        return kind, pair("kernel_size", module.kernel_size, 1), window, module.ceil_mode
    if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1), [1, 1]):
        return "average", None, _ANYWHERE, False
    return None
