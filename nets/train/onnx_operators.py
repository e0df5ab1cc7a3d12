"""Writes one small model for each operator that stands in the backend node tests of the package `onnx`.

Usage: python onnx_operators.py NODE_TESTS FOLDER

NODE_TESTS is what `onnx_node_cases.py` wrote. Each model is the smallest test of an operator of opset 21 with `f32` data. Its
inputs, except the first float one, become constants; quantised operators keep their first input. `cargo test -p nets --test onnx_operators` compares the models with the
table of docs/nets/onnx.md.
"""

import os
import sys

import onnx
from onnx import TensorProto, defs

LARGEST = 6000
ALLOWED = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8, TensorProto.INT8}

# Operators whose first input has whole numbers.
QUANTISED = {"DequantizeLinear", "QLinearConv", "QLinearMatMul"}


def read(path):
    tensor = TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    return tensor


def candidate(folder):
    model = onnx.load(os.path.join(folder, "model.onnx"))
    graph = model.graph
    if len(graph.node) != 1 or graph.initializer or not graph.input:
        return None
    tensors = [read(os.path.join(folder, "test_data_set_0", f"input_{i}.pb")) for i in range(len(graph.input))]
    if any(tensor.data_type not in ALLOWED or 0 in tensor.dims for tensor in tensors):
        return None
    if any(info.type.tensor_type.elem_type not in ALLOWED for info in graph.output):
        return None
    floats = [i for i, tensor in enumerate(tensors) if tensor.data_type == TensorProto.FLOAT]
    if not floats:
        return None
    live = 0 if graph.node[0].op_type in QUANTISED else floats[0]
    kept = graph.input[live]
    for i, tensor in enumerate(tensors):
        if i != live:
            tensor.name = graph.input[i].name
            graph.initializer.append(tensor)
    del graph.input[:]
    graph.input.append(kept)
    return model


def main(tests, folder):
    known = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == "" and schema.since_version <= 21}
    best = {}
    for name in sorted(os.listdir(tests)):
        if "expanded" in name or "training" in name:
            continue
        model = candidate(os.path.join(tests, name))
        if model is None:
            continue
        op = model.graph.node[0].op_type
        data = model.SerializeToString()
        if op in known and len(data) <= LARGEST and (op not in best or len(data) < len(best[op])):
            best[op] = data
    os.makedirs(folder, exist_ok=True)
    for op, data in best.items():
        with open(os.path.join(folder, f"{op}.onnx"), "wb") as file:
            file.write(data)
    print(len(best), "operators,", sum(map(len, best.values())), "bytes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
