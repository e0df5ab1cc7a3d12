"""Compares `nets run` with ONNX Runtime on networks in ONNX files, for random inputs.

    python compare_onnxruntime.py [--random-weights] [--logits] [--markdown] NETS FILE.onnx[:NAME=1x3x640x640,...] ...

NETS is the program. Needs numpy, onnx and onnxruntime. Symbolic extents without a value are 1. A file can be named more than once, with
other extents.

Each row has the relative L2 difference of one output from ONNX Runtime without its optimisations, and the spread of that output:
its standard deviation divided by its root mean square. An output whose spread is near 0 is the same everywhere, so its
comparison says little. `--random-weights` compares a copy of each model whose trained tensors have random values. `--logits`
compares a copy that ends before its last softmax or sigmoid, whose results are near 0 and 1 for random inputs.

Fails if a difference exceeds both 1e-5 and the difference between ONNX Runtime with and without its optimisations, or if an output
has elements that are not finite.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

MOST = 1e-5


def extents_of(info, given):
    return given.get(info.name) or [dim if isinstance(dim, int) and dim > 0 else 1 for dim in info.shape]


def inputs_of(session, given, generator):
    values = {}
    for info in session.get_inputs():
        extents = extents_of(info, given)
        if "int" in info.type:
            values[info.name] = generator.integers(0, 8, extents).astype(np.int64 if "64" in info.type else np.int32)
        else:
            values[info.name] = generator.standard_normal(extents).astype(np.float32)
    return values


def session_of(path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def weights_like(generator, dims, op, operand):
    """Random values of a tensor that is this operand of an operator."""
    if op == "BatchNormalization" and operand in (1, 4) or op == "Mul":
        return generator.uniform(0.5, 1.5, dims)
    if len(dims) > 1 and op in ("Conv", "Gemm", "MatMul"):
        return generator.standard_normal(dims) * np.sqrt(2.0 / np.prod(dims[1:]))
    return generator.standard_normal(dims) * 0.1


def end_before_probabilities(graph):
    """Makes the input of a last softmax or sigmoid the output."""
    last = graph.node[-1]
    if last.op_type in ("Softmax", "Sigmoid") and last.output[0] == graph.output[0].name:
        graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
        del graph.node[-1]


def randomise(graph):
    """Gives random values to all trained tensors, also to those that `ConstantOfShape` fills."""
    generator = np.random.default_rng(2)
    tensors = {tensor.name: list(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    fills = [node for node in graph.node if node.op_type == "ConstantOfShape" and node.input[0] in shapes]
    tensors.update({node.output[0]: numpy_helper.to_array(shapes[node.input[0]]).tolist() for node in fills})
    # A tensor that is reshaped is read by what follows.
    aliases = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Unsqueeze"}
    values = {}
    for node in graph.node:
        for operand, name in enumerate(node.input):
            name = aliases.get(name, name)
            if name in tensors and node.op_type != "Unsqueeze":
                values[name] = weights_like(generator, tensors[name], node.op_type, operand).astype(np.float32)
    kept = [tensor for tensor in graph.initializer if tensor.name not in values]
    kept += [numpy_helper.from_array(value, name) for name, value in values.items()]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape" or node.output[0] not in values]
    inputs = [info for info in graph.input if info.name not in values]
    for field, list_ in ((graph.initializer, kept), (graph.node, nodes), (graph.input, inputs)):
        del field[:]
        field.extend(list_)


def changed(path, arguments, copy):
    """The path of the model that is compared: a changed copy, if the arguments want one."""
    if not (arguments.random_weights or arguments.logits):
        return path
    model = onnx.load(path)
    if arguments.random_weights:
        randomise(model.graph)
    if arguments.logits:
        end_before_probabilities(model.graph)
    onnx.save(model, copy)
    return copy


def run(program, path, values, names, folder):
    """The outputs of `nets run` by name and the seconds, or its complaint."""
    command = [program, "run", path]
    for number, (name, value) in enumerate(values.items()):
        np.save(f"{folder}/x{number}.npy", value)
        command += ["--input", f"{name}={folder}/x{number}.npy"]
    for number, name in enumerate(names):
        command += ["--output", f"{name}={folder}/y{number}.npy"]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip().splitlines()[-1][:300]
    return {name: np.load(f"{folder}/y{number}.npy") for number, name in enumerate(names)}, time.time() - start


def verdict_of(got, right, other):
    """Difference, spread, and what is wrong with an output; an empty text if nothing is."""
    if got.shape != right.shape:
        return np.inf, 0.0, f"WRONG extents {got.shape}, expected {right.shape}"
    if not (np.isfinite(got).all() and np.isfinite(right).all()):
        return np.inf, 0.0, "NOT FINITE"
    got, right, other = (array.astype(np.float64).ravel() for array in (got, right, other))
    size = max(np.linalg.norm(right), 1e-30)
    difference, own = np.linalg.norm(got - right) / size, np.linalg.norm(other - right) / size
    spread = right.std() / max(np.sqrt(np.mean(right**2)), 1e-30)
    if difference > max(MOST, own):
        return difference, spread, "WRONG"
    return difference, spread, "" if difference <= MOST else f"ONNX Runtime differs from itself by {own:.1e}"


def compare(arguments, argument, show):
    path, _, rest = argument.partition(":")
    name = Path(path).stem
    given = {}
    for part in filter(None, rest.split(",")):
        key, extents = part.split("=")
        given[key] = [int(extent) for extent in extents.split("x")]
    with tempfile.TemporaryDirectory() as folder:
        path = changed(path, arguments, f"{folder}/m.onnx")
        session = session_of(path, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        values = inputs_of(session, given, np.random.default_rng(1))
        names = [info.name for info in session.get_outputs()]
        extents = " ".join("x".join(map(str, value.shape)) for value in values.values())
        expected = session.run(names, values)
        others = session_of(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL).run(names, values)
        outputs, rest = run(arguments.program, path, values, names, folder)
        if outputs is None:
            show(name, extents, "", "", "", f"REFUSED: {rest}")
            return False
        good = True
        for output, right, other in zip(names, expected, others):
            difference, spread, remark = verdict_of(outputs[output], right, other)
            good &= not remark or remark.startswith("ONNX Runtime")
            label = output if len(names) > 1 else ""
            show(name, extents, label, f"{difference:.1e}", f"{spread:.2g}", remark or ("" if arguments.markdown else f"{rest:.1f} s"))
        return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random-weights", action="store_true", help="compare copies with random weights")
    parser.add_argument("--logits", action="store_true", help="compare what is before a last softmax or sigmoid")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("program")
    parser.add_argument("files", nargs="+", metavar="FILE")
    arguments = parser.parse_args()

    def show(*cells):
        if arguments.markdown:
            print("|", " | ".join(cells), "|", flush=True)
        else:
            print(f"{cells[0]:<34} {cells[1]:<18} {cells[2]:<12} {' '.join(cells[3:])}", flush=True)

    if arguments.markdown:
        show("file", "input", "output", "difference", "spread", "remark")
        print("|---|---|---|---:|---:|---|")
    return all([compare(arguments, file, show) for file in arguments.files])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
