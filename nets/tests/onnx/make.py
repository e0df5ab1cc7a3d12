"""Writes the models of nets/tests/onnx.rs into this directory, and what ONNX Runtime makes of them.

    pip install onnx==1.23.2 onnxruntime==1.31.1 numpy
    python nets/tests/onnx/make.py

`NAME.onnx` is a model of a few kilobytes, `NAME.f32` its input followed by its output (little endian), and
`index.json` says of each how many trained numbers and multiply-accumulates it has, counted here by the rules of ONNX
alone, and what the importer is to warn of. `broken/` has models with one mistake each.
"""

import json
import pathlib
import shutil

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

HERE = pathlib.Path(__file__).parent
IR = {8: 3, 9: 4, 11: 6, 12: 7, 13: 7, 17: 8, 18: 8, 21: 10}
rng = np.random.default_rng(1)
index = {}


class Model:
    """A graph that is written down node by node."""

    def __init__(self, name, opset, shape, batch=None):
        self.name, self.opset, self.shape, self.batch = name, opset, list(shape), batch
        self.nodes, self.tensors, self.count = [], [], 0
        self.untrained = set()

    def tensor(self, name, value, typed=False):
        value = np.asarray(value)
        made = numpy_helper.from_array(value, name)
        if typed:
            kind = TensorProto.FLOAT if value.dtype == np.float32 else TensorProto.INT64
            made = helper.make_tensor(name, kind, value.shape, value.flatten().tolist())
        self.tensors.append(made)
        return name

    def random(self, name, *shape, low=-0.5, high=0.5):
        return self.tensor(name, rng.uniform(low, high, shape).astype(np.float32))

    def ints(self, name, *values):
        return self.tensor(name, np.array(values, np.int64))

    def add(self, op, *inputs, outputs=1, domain=None, **attributes):
        self.count += 1
        name = f"{op.lower()}_{self.count}"
        outs = [f"{name}_out{i or ''}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name, domain=domain, **attributes))
        return outs[0] if outputs == 1 else outs

    def graph(self, output):
        batch = self.shape[0] if self.batch is None else self.batch
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *self.shape[1:]])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        inputs = [x]
        if IR[self.opset] < 4:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.tensors]
        return helper.make_graph(self.nodes, self.name, inputs, [y], self.tensors)

    def model(self, output, domains=()):
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(self.graph(output), opset_imports=opsets, ir_version=IR[self.opset])

    def save(self, output, trained, warnings=0, external=False, runs=True):
        model = self.model(output)
        path = HERE / f"{self.name}.onnx"
        # Counted before the data moves out of the model. The checker wants a shape for the output.
        macs = count_macs(model, self.shape)
        shape = shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type
        model.graph.output[0].type.CopyFrom(shape)
        if not shape.tensor_type.HasField("shape"):
            model.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None]))
        onnx.checker.check_model(model)
        if external:
            (HERE / "data").mkdir(exist_ok=True)
            onnx.save(model, path, save_as_external_data=True, location=f"data/{self.name}.bin", size_threshold=0)
        else:
            onnx.save(model, path)
        entry = {"params": sum(trained), "macs": macs, "warnings": warnings}
        if runs:
            x = rng.uniform(-1, 1, self.shape).astype(np.float32)
            (y,) = run(str(path), x, None)
            (HERE / f"{self.name}.f32").write_bytes(x.tobytes() + y.astype(np.float32).tobytes())
            entry["batch"] = self.shape[0]
        index[self.name] = entry


def run(model, x, outputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, {"x": x})


def count_macs(model, shape):
    """Multiply-accumulates of one image, from the shapes of everything that ONNX Runtime computes for it."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    names = [node.output[0] for node in model.graph.node]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = run(model, np.zeros([1, *shape[1:]], np.float32), names)
    shapes = {name: value.shape for name, value in zip(names, values)}
    shapes |= {t.name: tuple(t.dims) for t in model.graph.initializer} | {"x": (1, *shape[1:])}
    macs = 0
    for node in model.graph.node:
        inputs, out = [shapes.get(name) for name in node.input], shapes[node.output[0]]
        if node.op_type == "Conv":
            macs += int(np.prod(out) * np.prod(inputs[1][1:]))
        elif node.op_type == "ConvTranspose":
            macs += int(np.prod(inputs[0]) * np.prod(inputs[1][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            macs += int(np.prod(out) * inputs[0][-1])
    return macs


def convolutions():
    m = Model("grouped", 13, (2, 4, 7, 6))
    y = m.add("Conv", "x", m.random("w", 6, 2, 3, 3), m.random("b", 6), group=2, pads=[1, 1, 1, 1])
    m.save(m.add("Relu", y), [108, 6])

    m = Model("depthwise", 11, (2, 5, 9, 8))
    y = m.add("Conv", "x", m.random("w", 5, 1, 3, 3), group=5, strides=[2, 2], kernel_shape=[3, 3])
    y = m.add("Clip", y, m.tensor("lo", np.float32(0)), m.tensor("hi", np.float32(0.5)))
    m.save(m.add("Conv", y, m.random("v", 3, 5, 1, 1), m.random("b", 3)), [45, 15, 3])

    m = Model("dilated", 9, (1, 3, 11, 10))
    y = m.add("Conv", "x", m.random("w", 4, 3, 3, 2), m.random("b", 4), dilations=[2, 3], pads=[2, 0, 2, 0])
    m.save(m.add("LeakyRelu", y, alpha=0.2), [72, 4])

    m = Model("asymmetric", 8, (2, 3, 8, 7))
    y = m.add("Conv", "x", m.random("w", 4, 3, 3, 3), m.random("b", 4), pads=[1, 0, 2, 3], strides=[2, 1])
    m.save(m.add("Clip", y, min=-0.25, max=0.5), [108, 4])

    for kind in ("upper", "lower"):
        m = Model(f"same_{kind}", 17, (1, 3, 9, 8))
        auto = f"SAME_{kind.upper()}"
        y = m.add("Conv", "x", m.random("w", 4, 3, 4, 2), auto_pad=auto, strides=[2, 3])
        y = m.add("MaxPool", y, kernel_shape=[2, 3], strides=[2, 1], auto_pad=auto)
        y = m.add("AveragePool", y, kernel_shape=[2, 2], auto_pad=auto)
        m.save(m.add("Conv", y, m.random("v", 2, 4, 2, 2), auto_pad="VALID"), [96, 32])

    m = Model("one_axis", 13, (2, 3, 20))
    y = m.add("Conv", "x", m.random("w", 4, 3, 5), m.random("b", 4), pads=[2, 1], strides=[2])
    y = m.add("MaxPool", m.add("Relu", y), kernel_shape=[2], strides=[2])
    y = m.add("GlobalAveragePool", y)
    m.save(m.add("Flatten", y), [60, 4])

    m = Model("transposed", 11, (1, 4, 5, 6))
    y = m.add("ConvTranspose", "x", m.random("w", 4, 3, 3, 3), m.random("b", 6), group=2, strides=[2, 2],
              pads=[1, 1, 1, 1], output_padding=[1, 1])
    m.save(m.add("ConvTranspose", y, m.random("v", 6, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"), [108, 6, 108],
           runs=False)


def pools():
    m = Model("pools", 21, (2, 3, 13, 12))
    y = m.add("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, pads=[1, 0, 1, 0])
    y = m.add("MaxPool", y, kernel_shape=[2, 2], dilations=[2, 1])
    y = m.add("AveragePool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    m.save(m.add("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 0, 0]), [])

    m = Model("means", 18, (2, 5, 4, 3))
    y = m.add("Conv", "x", m.random("w", 4, 5, 1, 1))
    y = m.add("ReduceMean", y, m.ints("axes", -1, -2), keepdims=0)
    m.save(m.add("Gemm", y, m.random("f", 3, 4), transB=1), [20, 12])

    m = Model("means_old", 11, (2, 5, 4, 3))
    y = m.add("ReduceMean", "x", axes=[2, 3])
    m.save(m.add("Conv", y, m.random("w", 3, 5, 1, 1)), [15])

    m = Model("maxima", 13, (1, 4, 5, 5))
    y = m.add("Squeeze", m.add("GlobalMaxPool", "x"), m.ints("axes", 2, 3))
    m.save(m.add("Softmax", y), [])


def linear():
    m = Model("gemm", 9, (3, 6))
    y = m.add("Gemm", "x", m.random("w", 6, 5), m.random("b", 5), alpha=0.5, beta=2.0)
    y = m.add("Tanh", y)
    m.save(m.add("Gemm", y, m.random("v", 4, 5), m.random("c", 1, 4), transB=1), [30, 5, 20, 4])

    m = Model("matmul", 13, (2, 2, 3, 3))
    y = m.add("Flatten", "x")
    y = m.add("Add", m.add("MatMul", y, m.random("w", 18, 7)), m.random("b", 7))
    y = m.add("Sigmoid", y)
    turned = m.add("Transpose", m.random("v", 4, 7), perm=[1, 0])
    y = m.add("Add", m.random("c", 4), m.add("MatMul", y, turned))
    m.save(m.add("Softmax", y, axis=1), [126, 7, 28, 4])

    m = Model("symbolic", 13, (3, 3, 8, 8), batch="N")
    y = m.add("Relu", m.add("Conv", "x", m.random("w", 4, 3, 3, 3), m.random("b", 4), strides=[2, 2]))
    y = m.add("Flatten", m.add("GlobalAveragePool", y))
    m.save(m.add("Gemm", y, m.random("v", 5, 4), m.random("c", 5), transB=1), [108, 4, 20, 5])

    m = Model("external", 17, (1, 3, 6, 6))
    y = m.add("Conv", "x", m.random("w", 4, 3, 3, 3), m.random("b", 4))
    m.save(m.add("Gemm", m.add("Flatten", y), m.random("v", 5, 64), transB=1), [108, 4, 320], external=True)

    m = Model("typed", 13, (1, 3, 4, 4))
    w = m.tensor("w", rng.uniform(-1, 1, (2, 3, 2, 2)).astype(np.float32), typed=True)
    y = m.add("Reshape", m.add("Conv", "x", w), m.tensor("shape", np.array([0, -1]), typed=True))
    m.save(y, [24])


def constants():
    m = Model("constants", 12, (2, 3, 6, 5))
    value = numpy_helper.from_array(rng.uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32))
    w = m.add("Constant", value=value)
    b = m.add("ConstantOfShape", m.ints("four", 4), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.125]))
    y = m.add("Conv", "x", w, b)
    ones = m.add("ConstantOfShape", m.ints("channels", 4), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5]))
    zeros = m.add("ConstantOfShape", "channels")
    y = m.add("BatchNormalization", y, ones, zeros, m.random("mean", 4), m.random("var", 4, low=0.5, high=2))
    m.save(m.add("Identity", y), [108, 4, 4, 4])

    for opset in (9, 13):
        m = Model(f"view_{opset}", opset, (2, 3, 4, 4), batch="N")
        y = m.add("Conv", "x", m.random("w", 4, 3, 2, 2))
        first = m.add("Gather", m.add("Shape", y), m.tensor("zero", np.array(0)), axis=0)
        if opset < 13:
            rows = m.add("Unsqueeze", first, axes=[0])
        else:
            rows = m.add("Unsqueeze", first, m.ints("front", 0))
        shape = m.add("Concat", rows, m.add("Constant", value=numpy_helper.from_array(np.array([-1]))), axis=0)
        y = m.add("Reshape", y, shape)
        m.save(m.add("Gemm", y, m.random("v", 3, 36), m.random("c", 3), transB=1), [48, 108, 3])

    m = Model("view_sliced", 11, (2, 4, 3, 3), batch="N")
    shape = m.add("Shape", "x")
    front = m.add("Slice", shape, m.ints("s", 0), m.ints("e", 2), m.ints("a", 0))
    back = m.add("Slice", shape, m.ints("s2", -2), m.ints("e2", 2**63 - 1), m.ints("a2", 0), m.ints("step", 1))
    area = m.add("Mul", m.add("Gather", back, m.tensor("i", np.array(0))), m.add("Gather", back, m.tensor("j", np.array(1))))
    area = m.add("Unsqueeze", m.add("Cast", m.add("Div", area, m.tensor("one", np.array(1))), to=TensorProto.INT64), axes=[0])
    y = m.add("Reshape", "x", m.add("Concat", front, area, axis=0))
    y = m.add("Reshape", y, m.ints("flat", 0, 36))
    m.save(m.add("Gemm", y, m.random("v", 36, 2)), [72])


def others():
    m = Model("norms_old", 8, (2, 6, 5, 4))
    m_bn = [m.random("s", 6), m.random("b", 6), m.random("mean", 6), m.random("var", 6, low=0.5, high=2)]
    y = m.add("BatchNormalization", "x", *m_bn, epsilon=1e-3)
    y = m.add("LRN", y, size=3, alpha=0.5, beta=0.75, bias=2.0)
    y = m.add("PRelu", y, m.random("slope", 6, 1, 1))
    m.save(m.add("Dropout", m.add("Elu", y, alpha=0.5)), [6, 6, 6])

    m = Model("norms", 21, (2, 6, 5, 4))
    y = m.add("InstanceNormalization", "x", m.random("s", 6), m.random("b", 6), epsilon=1e-3)
    y = m.add("GroupNormalization", y, m.random("s2", 6), m.random("b2", 6), num_groups=3)
    y = m.add("Flatten", m.add("GlobalAveragePool", y))
    m.save(m.add("LayerNormalization", y, m.random("s3", 6), m.random("b3", 6)), [12, 12, 12])

    m = Model("residual", 17, (2, 4, 6, 6))
    y = m.add("Conv", "x", m.random("w", 4, 4, 3, 3), pads=[1, 1, 1, 1])
    y = m.add("Relu", m.add("Add", y, "x"))
    z = m.add("Concat", y, m.add("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), axis=1)
    m.save(m.add("Sum", z, z, z), [144])

    m = Model("gates", 13, (2, 4, 6, 6))
    y = m.add("Conv", "x", m.random("w", 4, 4, 1, 1))
    y = m.add("Mul", m.add("Sigmoid", y), y)
    y = m.add("Mul", y, m.add("HardSigmoid", y, alpha=1 / 6, beta=0.5))
    s = m.add("Conv", m.add("GlobalAveragePool", y), m.random("v", 4, 4, 1, 1), m.random("b", 4))
    m.save(m.add("Mul", m.add("Sigmoid", s), y), [16, 16, 4])

    m = Model("scales", 11, (2, 3, 6, 6))
    y = m.add("Sub", "x", m.random("mean", 3, 1, 1))
    y = m.add("Div", y, m.random("std", 1, 3, 1, 1, low=0.5, high=2))
    y = m.add("Mul", y, m.tensor("two", np.float32(2)))
    y = m.add("Add", m.add("Conv", y, m.random("w", 4, 3, 3, 3)), m.random("b", 1, 4, 1, 1))
    m.save(m.add("Add", m.add("Mul", y, m.random("s", 4, 1, 1)), m.random("t", 4, 1, 1)), [3, 3, 108, 4, 4, 4])

    m = Model("padded", 13, (2, 3, 5, 6))
    y = m.add("Pad", "x", m.ints("pads", 0, 0, 1, 2, 0, 0, 0, 3))
    y = m.add("Conv", y, m.random("w", 4, 3, 3, 3), strides=[2, 2])
    y = m.add("Squeeze", m.add("Unsqueeze", y, m.ints("five", 4)), m.ints("five_again", -1))
    m.save(m.add("Transpose", m.add("GlobalAveragePool", y), perm=[0, 2, 1, 3]), [108])

    m = Model("padded_old", 8, (1, 3, 5, 6))
    y = m.add("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
    m.save(m.add("Relu", m.add("Squeeze", m.add("Unsqueeze", y, axes=[4]), axes=[4])), [])

    m = Model("hardswish", 17, (1, 3, 4, 4))
    m.save(m.add("HardSwish", m.add("PRelu", "x", m.random("slope", 1))), [1])

    m = Model("shared", 13, (1, 4, 5, 5))
    w, b = m.random("w", 4, 4, 3, 3), m.random("b", 4)
    y = m.add("Conv", "x", w, b, pads=[1, 1, 1, 1])
    y = m.add("Conv", y, w, b, pads=[1, 1, 1, 1])
    # The copy counts: PyTorch writes equal tensors of different layers so.
    m.save(m.add("Conv", y, m.add("Identity", w), pads=[1, 1, 1, 1]), [144, 4, 144], warnings=2)

    m = Model("unknown", 17, (1, 4, 5, 5))
    y = m.add("Conv", "x", m.random("w", 4, 4, 1, 1))
    m.save(m.add("Mul", m.add("Bernoulli", y), m.add("Bernoulli", y)), [16], warnings=1, runs=False)

    m = Model("half", 13, (1, 3, 4, 4))
    w = m.add("Cast", m.tensor("w", rng.uniform(-1, 1, (2, 3, 2, 2)).astype(np.float16)), to=TensorProto.FLOAT)
    m.save(m.add("Conv", "x", w), [24])


def broken():
    folder = HERE / "broken"
    folder.mkdir()

    def conv(name, change, **attributes):
        m = Model(name, 13, (1, 3, 6, 6))
        y = m.add("Conv", "x", m.random("w", 4, 3, 3, 3), m.random("b", 4), **attributes)
        model = m.model(m.add("Relu", y))
        change(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())

    def attribute(model, **attributes):
        model.graph.node[0].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    def cyclic(model):
        model.graph.node[0].input[0] = "relu_2_out"

    def dangling(model):
        model.graph.node[1].input[0] = "nowhere"

    def outside(model, location, length="432", offset="0"):
        w = model.graph.initializer[0]
        w.ClearField("raw_data")
        w.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            entry = w.external_data.add()
            entry.key, entry.value = key, value

    def set_dims(tensor, *dims):
        tensor.dims[:] = dims

    def symbol(model):
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"

    def extent(model, value):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = value

    conv("cyclic", cyclic)
    conv("dangling", dangling)
    conv("output_twice", lambda m: m.graph.node[1].output.__setitem__(0, "conv_1_out"))
    conv("tensor_twice", lambda m: setattr(m.graph.initializer[1], "name", "w"))
    conv("wrong_type", lambda m: attribute(m, group=1.5))
    conv("wrong_strides", lambda m: attribute(m, strides=[0, 1]))
    conv("wrong_count", lambda m: attribute(m, pads=[1, 1, 1]))
    conv("negative_pads", lambda m: attribute(m, pads=[-1, 0, 0, 0]))
    conv("auto_pad", lambda m: attribute(m, auto_pad="SAME"))
    conv("groups", lambda m: attribute(m, group=2))
    conv("kernel_shape", lambda m: attribute(m, kernel_shape=[5, 5]))
    conv("too_large", lambda m: attribute(m, dilations=[100, 1]))
    conv("bias_length", lambda m: (set_dims(m.graph.initializer[1], 3), setattr(m.graph.initializer[1], "raw_data", b"\0" * 12)))
    conv("negative_dims", lambda m: set_dims(m.graph.initializer[0], 4, -3, 3, 3))
    conv("absurd_dims", lambda m: set_dims(m.graph.initializer[0], 2**40, 2**40, 3, 3))
    conv("short_data", lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0" * 100))
    conv("outside", lambda m: outside(m, "../secret.bin"))
    conv("absolute", lambda m: outside(m, "/secret.bin"))
    # It can be counted.
    conv("missing", lambda m: outside(m, "nothing.bin"))
    (folder / "missing.onnx").rename(HERE / "missing_data.onnx")
    conv("beyond", lambda m: outside(m, "cyclic.onnx", "432", "100000"))
    conv("offset", lambda m: outside(m, "cyclic.onnx", "432", "-1"))
    conv("symbolic_height", symbol)
    conv("negative_input", lambda m: extent(m, -3))
    conv("wrong_channels", lambda m: extent(m, 5))
    conv("no_opset", lambda m: m.ClearField("opset_import"))
    conv("no_graph", lambda m: m.ClearField("graph"))
    conv("no_output", lambda m: m.graph.ClearField("output"))
    conv("no_weights", lambda m: m.graph.node[0].input.__setitem__(1, ""))

    m = Model("reshape", 13, (1, 3, 6, 6))
    y = m.add("Reshape", "x", m.ints("shape", 1, 7, -1))
    (folder / "reshape.onnx").write_bytes(m.model(y).SerializeToString())
    m = Model("matrix", 13, (1, 3, 6, 6))
    y = m.add("Gemm", m.add("Flatten", "x"), m.random("w", 107, 2))
    (folder / "matrix.onnx").write_bytes(m.model(y).SerializeToString())


if __name__ == "__main__":
    for old in [*HERE.glob("*.onnx"), *HERE.glob("*.f32")]:
        old.unlink()
    for folder in ("data", "broken"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for family in (convolutions, pools, linear, constants, others, broken):
        family()
    (HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")
