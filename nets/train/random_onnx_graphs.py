"""Random ONNX graphs: `nets run` agrees with ONNX Runtime, or refuses them.

Usage: python random_onnx_graphs.py PROGRAM COUNT [SEED]

Each graph is a chain of up to four operators with random attributes on a random tensor of one to five axes. Graphs that ONNX
Runtime itself rejects are skipped. Where the two differ, ONNX's reference implementation in float64 decides. Needs numpy, onnx
and onnxruntime. Fails if one output is wrong.
"""

import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


class Graph:
    def __init__(self, rng):
        self.rng, self.nodes, self.tensors = rng, [], []
        self.opset = int(rng.choice([11, 13, 17, 18, 20, 23]))
        self.dims = [int(rng.integers(1, 5)) for _ in range(rng.integers(1, 6))]
        # Maps of whole blocks of 16 channels.
        self.is_wide = len(self.dims) == 4 and rng.random() < 0.5
        if self.is_wide:
            self.dims[1] = int(rng.choice([16, 32, 48]))
        self.input, self.last = list(self.dims), "x"

    def constant(self, values):
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def floats(self, dims):
        return self.constant(self.rng.standard_normal(dims).astype(np.float32))

    def ints(self, values):
        return self.constant(np.asarray(values, np.int64))

    def add(self, op, inputs=(), **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.last, *inputs], [name], **attributes))
        self.last = name

    def axis(self):
        axis = int(self.rng.integers(len(self.dims)))
        return axis if self.rng.random() < 0.5 else axis - len(self.dims)

    def step(self):
        rng, dims = self.rng, self.dims
        rank = len(dims)
        if rank == 0:
            return self.add("Relu")
        kind = rng.integers(21)
        return self.change(kind, rank)

    def change(self, kind, rank):
        rng, dims = self.rng, self.dims
        if kind == 0:
            self.add(str(rng.choice(["Relu", "Abs", "Neg", "Erf", "Tanh", "Sigmoid", "Floor", "Exp", "HardSigmoid", "Softplus"])))
        elif kind == 1:
            other = [1 if rng.random() < 0.4 else dim for dim in dims[int(rng.integers(rank + 1)):]]
            self.add(str(rng.choice(["Add", "Sub", "Mul", "Div", "PRelu"])), [self.floats(other)])
        elif kind == 2:
            perm = [int(i) for i in rng.permutation(rank)]
            self.dims = [dims[i] for i in perm]
            self.add("Transpose", perm=perm)
        elif kind == 3:
            axis = self.axis()
            start, stop = int(rng.integers(-4, 4)), int(rng.integers(-4, 6))
            step = int(rng.choice([-2, -1, 1, 2]))
            if self.is_wide and dims[axis] % 16 == 0:
                start, stop, step = 16 * int(rng.integers(2)), dims[axis], 1
            count = len(range(dims[axis])[slice(start, stop, step)])
            if count:
                self.dims[axis] = count
                self.add("Slice", [self.ints([start]), self.ints([stop]), self.ints([axis]), self.ints([step])])
        elif kind == 4:
            axis = self.axis()
            self.dims[axis] *= 2
            self.nodes.append(helper.make_node("Concat", [self.last, self.last], [f"v{len(self.nodes)}"], axis=axis))
            self.last = self.nodes[-1].output[0]
        elif kind == 5:
            mode = str(rng.choice(["constant", "edge", "reflect"]))
            most = [max(dim - 1, 0) if mode == "reflect" else 2 for dim in dims]
            before, after = ([int(rng.integers(0, m + 1)) for m in most] for _ in range(2))
            self.dims = [d + b + a for d, b, a in zip(dims, before, after)]
            self.add("Pad", [self.ints(before + after)], mode=mode)
        elif kind == 6:
            axes = sorted({int(rng.integers(rank)) for _ in range(2)})
            keep = int(rng.integers(2))
            op = str(rng.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceLogSumExp"]))
            self.dims = [1 if i in axes else d for i, d in enumerate(dims) if keep or i not in axes]
            if self.opset >= 18:
                self.add(op, [self.ints(axes)], keepdims=keep)
            else:
                self.add(op, axes=axes, keepdims=keep)
        elif kind == 7:
            self.add(str(rng.choice(["Softmax", "LogSoftmax", "Hardmax"])), axis=self.axis())
        elif kind == 8:
            columns = int(rng.integers(1, 5))
            outer = dims[:-2] if rng.random() < 0.5 else []
            if rank >= 2:
                self.dims = [*dims[:-1], columns]
                self.add("MatMul", [self.floats([*outer, dims[-1], columns])])
        elif kind == 9:
            self.dims = [int(np.prod(dims[: rank // 2])), int(np.prod(dims[rank // 2:]))]
            self.add("Reshape", [self.ints([*self.dims[:1], -1])])
        elif kind == 10 and rank < 5:
            axis = int(rng.integers(rank + 1))
            self.dims = [*dims[:axis], 1, *dims[axis:]]
            if self.opset >= 13:
                self.add("Unsqueeze", [self.ints([axis])])
            else:
                self.add("Unsqueeze", axes=[axis])
        elif kind == 11:
            axis = self.axis()
            indices = rng.integers(-dims[axis], dims[axis], int(rng.integers(1, 4)))
            self.dims[axis] = len(indices)
            self.add("Gather", [self.ints(indices)], axis=axis)
        elif kind == 12 and 3 <= rank <= 5 and int(np.prod(dims)) < 4000:
            outputs = int(rng.choice([16, 32])) if self.is_wide else int(rng.integers(1, 5))
            kernel = [int(rng.integers(1, min(d, 3) + 1)) for d in dims[2:]]
            strides = [int(rng.integers(1, 3)) for _ in kernel]
            transposed = rng.random() < 0.4
            if transposed:
                self.add("ConvTranspose", [self.floats([dims[1], outputs, *kernel]), self.floats([outputs])], strides=strides)
                image = [(d - 1) * s + k for d, k, s in zip(dims[2:], kernel, strides)]
            else:
                self.add("Conv", [self.floats([outputs, dims[1], *kernel]), self.floats([outputs])], strides=strides)
                image = [(d - k) // s + 1 for d, k, s in zip(dims[2:], kernel, strides)]
            self.dims = [dims[0], outputs, *image]
        elif kind == 13 and 3 <= rank <= 5:
            kernel = [int(rng.integers(1, min(d, 3) + 1)) for d in dims[2:]]
            strides = [int(rng.integers(1, 3)) for _ in kernel]
            self.add(str(rng.choice(["MaxPool", "AveragePool"])), kernel_shape=kernel, strides=strides)
            self.dims = [*dims[:2], *[(d - k) // s + 1 for d, k, s in zip(dims[2:], kernel, strides)]]
        elif kind == 14 and rank == 4:
            sizes = [*dims[:2], int(rng.integers(1, 8)), int(rng.integers(1, 8))]
            mode = str(rng.choice(["nearest", "linear", "cubic"]))
            how = str(rng.choice(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]))
            none = self.constant(np.zeros(0, np.float32))
            self.add("Resize", [none, none, self.ints(sizes)], mode=mode, coordinate_transformation_mode=how)
            self.dims = sizes
        elif kind == 15:
            target = [int(rng.integers(1, 4)), *dims] if rank < 5 else dims
            self.dims = target
            self.add("Expand", [self.ints(target)])
        elif kind == 16 and self.opset >= 17:
            axis = int(rng.integers(rank))
            self.add("LayerNormalization", [self.floats(dims[axis:]), self.floats(dims[axis:])], axis=axis)

        elif kind == 17 and self.opset >= 16 and (rank == 4 or (rank == 5 and self.opset >= 20)):
            modes = ["linear", "nearest", "cubic"] if self.opset >= 20 else ["bilinear", "nearest", "bicubic"]
            mode = str(rng.choice(modes[:2] if rank == 5 else modes))
            padding = str(rng.choice(["zeros", "border", "reflection"]))
            image = [int(rng.integers(1, 6)) for _ in dims[2:]]
            grid = self.floats([dims[0], *image, rank - 2])
            self.add("GridSample", [grid], mode=mode, padding_mode=padding, align_corners=int(rng.integers(2)))
            self.dims = [*dims[:2], *image]
        elif kind == 18 and self.opset >= 18 and rank == 3:
            rows = int(rng.choice([i for i in (1, 2, 3) if dims[1] % i == 0]))
            columns = int(rng.choice([i for i in (1, 2, 3) if dims[1] // rows % i == 0]))
            stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
            image = [(dims[2] - 1) * stride + (rows - 1) * dilation + 1, columns]
            inputs = [self.ints(image), self.ints([rows, columns])]
            self.add("Col2Im", inputs, strides=[stride, 1], dilations=[dilation, 1])
            self.dims = [dims[0], dims[1] // (rows * columns), *image]
        elif kind == 19 and self.opset >= 19 and rank == 4:
            outputs, kernel = int(rng.integers(1, 5)), [int(rng.integers(1, min(d, 3) + 1)) for d in dims[2:]]
            taps, image = int(np.prod(kernel)), [d - k + 1 for d, k in zip(dims[2:], kernel)]
            inputs = [self.floats([outputs, dims[1], *kernel]), self.floats([dims[0], 2 * taps, *image]), self.floats([outputs])]
            if rng.random() < 0.5:
                inputs.append(self.floats([dims[0], taps, *image]))
            self.add("DeformConv", inputs)
            self.dims = [dims[0], outputs, *image]
        elif kind == 20 and self.opset >= 23 and rank == 4:
            keys, features = int(rng.integers(1, 6)), int(rng.integers(1, 5))
            inputs = [self.floats([*dims[:2], keys, dims[3]]), self.floats([*dims[:2], keys, features])]
            if rng.random() < 0.5:
                inputs.append(self.floats([dims[2], keys]))
            self.add("Attention", inputs, is_causal=int(rng.integers(2)))
            self.dims = [*dims[:3], features]

    def model(self):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "random", [x], [y], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8 if self.opset < 19 else 10)


def in_double(model, x):
    """The output by ONNX's reference implementation in float64, or None if it lacks an operator."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    try:
        return ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float64)})[0]
    except Exception:
        return None


def main(program, count, seed):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    tally = {"agreed": 0, "ill-conditioned": 0, "refused": 0, "skipped": 0, "wrong": 0}
    reasons = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            graph = Graph(np.random.default_rng([seed, number]))
            for _ in range(int(graph.rng.integers(1, 5))):
                graph.step()
            if not graph.nodes:
                tally["skipped"] += 1
                continue
            model = graph.model()
            x = graph.rng.standard_normal(graph.input).astype(np.float32)
            try:
                session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
                expected = session.run(None, {"x": x})[0]
            except Exception:
                tally["skipped"] += 1
                continue
            if not np.isfinite(expected).all() or expected.size == 0:
                tally["skipped"] += 1
                continue
            onnx.save(model, f"{folder}/m.onnx")
            np.save(f"{folder}/x.npy", x)
            command = [program, "run", f"{folder}/m.onnx", "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy", "--threads", "1"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            ops = " ".join(node.op_type for node in model.graph.node)
            if done.returncode != 0:
                tally["refused"] += 1
                reason = done.stderr.strip().splitlines()[-1].split("expected", 1)[-1][:110]
                reasons[reason] = reasons.get(reason, 0) + 1
                if "panicked" in done.stderr:
                    tally["wrong"] += 1
                    print(f"{number}: PANIC {ops} {graph.input} {done.stderr[:300]}", flush=True)
                continue
            got = np.load(f"{folder}/y.npy")
            size = max(float(np.abs(expected).max()), 0.1)
            if got.shape == expected.shape and float(np.abs(got - expected).max()) <= 2e-5 * size:
                tally["agreed"] += 1
                continue
            # A graph can amplify rounding. Then neither program agrees with float64, and this one must not be farther from it.
            exact = in_double(model, x) if got.shape == expected.shape else None
            if exact is not None and np.abs(got - exact).max() <= max(np.abs(expected - exact).max(), 2e-5 * size):
                tally["ill-conditioned"] += 1
                print(f"{number}: ill-conditioned {ops} {graph.input}", flush=True)
            else:
                tally["wrong"] += 1
                print(f"{number}: WRONG {ops} {graph.input} opset {graph.opset}: {got.shape} {expected.shape}", flush=True)
    for reason, times in sorted(reasons.items(), key=lambda pair: -pair[1])[:12]:
        print(f"{times:6} {reason}")
    print(tally)
    return tally["wrong"] == 0


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1) else 1)
