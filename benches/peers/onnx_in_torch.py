"""A network in an ONNX file as a PyTorch module: its operators one by one, as a PyTorch program would call them."""

import numpy as np
import torch
from torch.nn import functional as F


class Network(torch.nn.Module):
    """Made from the file; the weights are buffers, so that a change of type or of memory format reaches them."""

    def __init__(self, path):
        import onnx
        from onnx import helper, numpy_helper

        super().__init__()
        graph = onnx.load(path).graph
        self.names = {}
        for index, tensor in enumerate(graph.initializer):
            self.names[tensor.name] = f"tensor{index}"
            self.register_buffer(f"tensor{index}", torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        self.steps = []
        for node in graph.node:
            attributes = {given.name: helper.get_attribute_value(given) for given in node.attribute}
            self.steps.append((OPERATORS[node.op_type], list(node.input), node.output[0], attributes))
        self.input, self.output = graph.input[0].name, graph.output[0].name
        # What is not read any more is freed, as it is in a function.
        self.last = {name: step for step, (_, inputs, _, _) in enumerate(self.steps) for name in inputs}

    def forward(self, x):
        values = {self.input: x}
        for step, (operator, inputs, output, attributes) in enumerate(self.steps):
            read = [values[name] if name in values else getattr(self, self.names[name]) for name in inputs]
            values[output] = operator(attributes, *read)
            for name in inputs:
                if self.last[name] == step:
                    values.pop(name, None)
        return values[self.output]


def symmetric(attributes):
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ValueError("padding on one side only")
    return (top, left)


def conv(attributes, x, weight, bias=None):
    strides, dilations = attributes["strides"], attributes["dilations"]
    return F.conv2d(x, weight, bias, strides, symmetric(attributes), dilations, attributes["group"])


def max_pool(attributes, x):
    window, strides, dilations = attributes["kernel_shape"], attributes["strides"], attributes["dilations"]
    ceil = bool(attributes.get("ceil_mode", 0))
    return F.max_pool2d(x, window, strides, symmetric(attributes), dilations, ceil)


def average_pool(attributes, x):
    window, strides, ceil = attributes["kernel_shape"], attributes["strides"], bool(attributes.get("ceil_mode", 0))
    return F.avg_pool2d(x, window, strides, symmetric(attributes), ceil, bool(attributes["count_include_pad"]))


def batch_norm(attributes, x, weight, bias, mean, var):
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, attributes["epsilon"])


def response_norm(attributes, x):
    size, alpha, beta, k = (attributes[name] for name in ("size", "alpha", "beta", "bias"))
    return F.local_response_norm(x, size, alpha, beta, k)


OPERATORS = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": conv,
    "Flatten": lambda attributes, x: torch.flatten(x, attributes["axis"]),
    "Gemm": lambda _, x, weight, bias=None: F.linear(x, weight, bias),
    "GlobalAveragePool": lambda _, x: F.adaptive_avg_pool2d(x, 1),
    "LRN": response_norm,
    "MaxPool": max_pool,
    "Relu": lambda _, x: F.relu(x, inplace=True),
    "Softmax": lambda attributes, x: F.softmax(x, attributes["axis"]),
    "Tanh": lambda _, x: torch.tanh(x),
}
