"""Writes the backend node tests of the installed package `onnx` as files.

Usage: python onnx_node_cases.py FOLDER

Each test is a folder `node/NAME` with `model.onnx` and `test_data_set_0/{input,output}_N.pb`, as older packages shipped
them. The tests of models converted from PyTorch are copied from the package. `cargo test -p nets --test onnx_nodes` reads
FOLDER from the environment variable ONNX_NODE_TESTS.
"""

import os
import shutil
import sys

import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def main(folder: str) -> None:
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        if os.path.isdir(os.path.join(data, kind)):
            shutil.copytree(os.path.join(data, kind), os.path.join(folder, kind), dirs_exist_ok=True)
    written = 0
    for case in collect_testcases(None):
        inputs, outputs = case.data_sets[0]
        tensors = [*inputs, *outputs]
        infos = [*case.model.graph.input, *case.model.graph.output]
        if not all(info.type.HasField("tensor_type") for info in infos):
            continue  # sequences, maps and optional values
        target = os.path.join(folder, "node", case.name)
        os.makedirs(os.path.join(target, "test_data_set_0"), exist_ok=True)
        with open(os.path.join(target, "model.onnx"), "wb") as file:
            file.write(case.model.SerializeToString())
        names = [f"input_{i}" for i in range(len(inputs))] + [f"output_{i}" for i in range(len(outputs))]
        for name, tensor, info in zip(names, tensors, infos):
            proto = tensor if isinstance(tensor, TensorProto) else numpy_helper.from_array(tensor, info.name)
            with open(os.path.join(target, "test_data_set_0", name + ".pb"), "wb") as file:
                file.write(proto.SerializeToString())
        written += 1
    print(f"{written} node tests of onnx {onnx.__version__} in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
