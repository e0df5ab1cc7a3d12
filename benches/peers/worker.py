"""The worker of the Python engines: `worker.py ENGINE THREADS`, one request and one answer a line.

The requests are those of benches/src/peers/worker.rs. Every engine gets and gives NCHW, as its users do; what it
does to its own layouts and back is part of its time.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    n: int
    c: int
    h: int
    w: int
    o: int
    kh: int
    kw: int
    stride: int
    pad: int
    dilation: int
    groups: int
    x: np.ndarray = None
    filter: np.ndarray = None
    y: np.ndarray = None

    # Axes of a map.
    axes = 2

    def taps(self):
        return (self.kh, self.kw)

    def size(self):
        return (self.h, self.w)

    def on_every_axis(self, extent):
        return [extent] * self.axes

    def out(self, size, taps):
        return (size + 2 * self.pad - self.dilation * (taps - 1) - 1) // self.stride + 1

    def shapes(self):
        """The extents of input, filter and output."""
        return {
            "x": (self.n, self.c, *self.size()),
            "filter": (self.o, self.c // self.groups, *self.taps()),
            "y": (self.n, self.o, *map(self.out, self.size(), self.taps())),
        }

    def load(self, names, files):
        for name, file in zip(names, files):
            setattr(self, name, np.fromfile(file, np.float32).reshape(self.shapes()[name]))


@dataclass
class Volume(Layer):
    """A 3-D layer, whose kernel has the same taps on every axis."""

    d: int = 0
    axes = 3

    @classmethod
    def of(cls, n, c, d, h, w, o, k, *others):
        return cls(n, c, h, w, o, k, k, *others, d=d)

    def taps(self):
        return (self.kw,) * 3

    def size(self):
        return (self.d, self.h, self.w)


def onnx_model(layer):
    """The layer as an ONNX model, serialized."""
    from onnx import TensorProto, helper, numpy_helper

    conv = helper.make_node(
        "Conv",
        ["x", "filter"],
        ["y"],
        kernel_shape=layer.taps(),
        strides=layer.on_every_axis(layer.stride),
        pads=layer.on_every_axis(layer.pad) * 2,
        dilations=layer.on_every_axis(layer.dilation),
        group=layer.groups,
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x.shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([conv], "layer", [x], [y], [numpy_helper.from_array(layer.filter, "filter")])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def beside(model, program, arguments, suffix):
    """The file beside the model that a converter of the same installation makes, once: in a process of its own, for what
    it takes is no part of the engine."""
    made = model.removesuffix(".onnx") + suffix
    if not os.path.exists(made):
        program = os.path.join(os.path.dirname(sys.executable), program)
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([program, *arguments], cwd=os.path.dirname(model), check=True, **silent)
    return made


class OnnxRuntime:
    def __init__(self, threads):
        import onnxruntime

        self.library = onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def prepare(self, layer):
        return self.network(onnx_model(layer), layer.x)

    def network(self, model, x):
        providers = ["CPUExecutionProvider"]
        self.session = self.library.InferenceSession(model, self.options, providers=providers)
        # The input stays where it is; the output is the session's.
        self.binding = self.session.io_binding()
        self.binding.bind_cpu_input(self.session.get_inputs()[0].name, x)
        self.binding.bind_output(self.session.get_outputs()[0].name)
        return f"onnxruntime {self.library.__version__}"


    def call(self):
        self.session.run_with_iobinding(self.binding)

    def output(self):
        self.call()
        return self.binding.copy_outputs_to_cpu()[0]


class OpenVino:
    def __init__(self, threads, precision="f32"):
        import openvino

        self.library, self.core = openvino, openvino.Core()
        # Without the first, machines with tiles for bfloat16 would use them.
        self.settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": True,
        }

    def prepare(self, layer):
        model = self.core.read_model(onnx_model(layer))
        self.request = None
        # Counters only to learn which kernels there are: they cost time.
        profiled = self.core.compile_model(model, "CPU", self.settings).create_infer_request()
        tensor = self.library.Tensor(layer.x, shared_memory=True)
        profiled.set_input_tensor(tensor)
        profiled.infer()
        nodes = [node for node in profiled.profiling_info if node.node_type not in ("Parameter", "Result", "Const")]
        self.network(model, layer.x)
        return " + ".join(f"{node.node_type} {node.exec_type}" for node in nodes)

    def network(self, model, x):
        settings = {**self.settings, "PERF_COUNT": False}
        compiled = self.core.compile_model(model, "CPU", settings)
        self.request = compiled.create_infer_request()
        self.x = x
        self.request.set_input_tensor(self.library.Tensor(x, shared_memory=True))
        # On a CPU without such products, the hint is not followed.
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return f"openvino {self.library.__version__.split('-')[0]} {precision}"

    def call(self):
        self.request.infer()

    def output(self):
        self.call()
        return np.array(self.request.get_output_tensor().data)


class Torch:
    """Input and output are f32 unless the whole engine is f64: conversions to bf16 and back are part of a call."""

    def __init__(self, threads, channels_last=False, compiled=False, dtype="float32"):
        import torch

        self.torch, self.compiled = torch, compiled
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.is_last = channels_last
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.dtype = getattr(torch, dtype)

    def with_casts(self, compute, x):
        if self.dtype == self.torch.bfloat16:
            return lambda: compute(x.to(self.dtype)).float()
        x = x.to(self.dtype)
        return lambda: compute(x)

    def format_of(self, layer):
        return self.torch.channels_last_3d if self.is_last and layer.axes == 3 else self.format

    def prepare(self, layer):
        as_tensor = lambda array: self.torch.from_numpy(array).to(memory_format=self.format_of(layer))
        x, weight = as_tensor(layer.x), as_tensor(layer.filter).to(self.dtype)
        conv = getattr(self.torch.nn.functional, f"conv{layer.axes}d")
        compute = lambda x: conv(x, weight, None, layer.stride, layer.pad, layer.dilation, layer.groups)
        self.convolve = self.call = self.with_casts(compute, x)
        return f"torch {self.torch.__version__}"

    def gradient(self, layer, mask):
        """What the backward pass of a convolution calls: the gradients of input, filter and bias that `mask` names."""
        memory_format = self.format_of(layer)
        empty = lambda name: self.torch.empty(layer.shapes()[name]).to(memory_format=memory_format)
        as_tensor = lambda array: self.torch.from_numpy(array).to(memory_format=memory_format)
        y = as_tensor(layer.y)
        # The operand whose gradient is computed gives its extents only.
        x = empty("x") if layer.x is None else as_tensor(layer.x)
        weight = empty("filter") if layer.filter is None else as_tensor(layer.filter)
        every = layer.on_every_axis
        backward = self.torch.ops.aten.convolution_backward
        geometry = (every(layer.stride), every(layer.pad), every(layer.dilation), False, every(0), layer.groups)
        wanted = lambda: [grad for grad in backward(y, x, weight, [layer.o], *geometry, mask) if grad is not None]
        # In NCHW and OIHW: the filter first, then the bias.
        self.convolve = lambda: self.torch.cat([grad.contiguous().flatten() for grad in wanted()])
        self.call = wanted
        return f"torch {self.torch.__version__}"

    def data(self, layer):
        return self.gradient(layer, [True, False, False])

    def weights(self, layer):
        return self.gradient(layer, [False, True, True])

    def transposed(self, layer):
        as_tensor = lambda array: self.torch.from_numpy(array).to(memory_format=self.format)
        y, weight = as_tensor(layer.y), as_tensor(layer.filter)
        # The rows and columns at the end that no output reads.
        left = lambda size, taps: (size + 2 * layer.pad - layer.dilation * (taps - 1) - 1) % layer.stride
        rest = [left(layer.h, layer.kh), left(layer.w, layer.kw)]
        conv_transpose2d = self.torch.nn.functional.conv_transpose2d
        geometry = (layer.stride, layer.pad, rest, layer.groups, layer.dilation)
        self.convolve = lambda: conv_transpose2d(y, weight, None, *geometry)
        self.call = self.convolve
        return f"torch {self.torch.__version__}"

    def network(self, model, x):
        from onnx_in_torch import Network

        net = Network(model).eval().to(dtype=self.dtype, memory_format=self.format)
        if self.compiled:
            import torch._inductor.config

            torch._inductor.config.freezing = True
            net = self.torch.compile(net)
        self.convolve = self.call = self.with_casts(net, self.torch.from_numpy(x).to(memory_format=self.format))
        return f"torch {self.torch.__version__}"

    def output(self):
        return self.convolve().contiguous().numpy()


class Ncnn:
    def __init__(self, threads):
        import ncnn

        self.library, self.threads = ncnn, threads

    def load(self, param, weights, x):
        net = self.library.Net()
        options = net.opt
        options.num_threads = self.threads
        options.use_vulkan_compute = False
        for half in [name for name in dir(options) if "fp16" in name or "bf16" in name]:
            setattr(options, half, False)
        if net.load_param(param) != 0 or net.load_model(weights) != 0:
            raise RuntimeError("ncnn did not load the model")
        # It has no batch: one image after the other.
        self.net, self.x, self.images = net, x, [self.library.Mat(image) for image in x]
        return f"ncnn {self.library.__version__}"

    def network(self, model, x):
        stem = beside(model, "pnnx", [model, "fp16=0"], ".ncnn.param").removesuffix(".param")
        self.names = ("in0", "out0")
        return self.load(f"{stem}.param", f"{stem}.bin", x)

    def prepare(self, layer):
        kind = "Convolution" if layer.groups == 1 else "ConvolutionDepthWise"
        values = {
            0: layer.o, 1: layer.kw, 11: layer.kh, 2: layer.dilation, 12: layer.dilation, 3: layer.stride,
            13: layer.stride, 4: layer.pad, 14: layer.pad, 5: 0, 6: layer.filter.size,
        }  # fmt: skip
        if layer.groups > 1:
            values[7] = layer.groups
        values = " ".join(f"{key}={value}" for key, value in values.items())
        with tempfile.TemporaryDirectory() as folder:
            param, weights = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
            with open(param, "w") as file:
                file.write(f"7767517\n2 2\nInput x 0 1 x\n{kind} conv 1 1 x y {values}\n")
            with open(weights, "wb") as file:
                # Four zero bytes: the weights that follow are f32.
                file.write(bytes(4) + layer.filter.tobytes())
            self.names = ("x", "y")
            return self.load(param, weights, layer.x)

    def image(self, image):
        extractor = self.net.create_extractor()
        extractor.input(self.names[0], image)
        return extractor.extract(self.names[1])[1]

    def call(self):
        for image in self.images:
            self.image(image)

    def output(self):
        return np.stack([np.array(self.image(image)) for image in self.images])


class Mnn:
    def __init__(self, threads):
        import MNN

        self.library, self.threads = MNN, threads

    def prepare(self, layer):
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "layer.onnx")
            with open(model, "wb") as file:
                file.write(onnx_model(layer))
            return self.network(model, layer.x)

    def network(self, model, x):
        converted = model.removesuffix(".onnx") + ".mnn"
        arguments = ["-f", "ONNX", "--modelFile", model, "--MNNModel", converted, "--bizCode", "peers"]
        self.interpreter = self.library.Interpreter(beside(model, "mnnconvert", arguments, ".mnn"))
        settings = {"backend": "CPU", "numThread": self.threads, "precision": "high"}
        self.session = self.interpreter.createSession(settings)
        self.x = self.interpreter.getSessionInput(self.session)
        self.array, self.source = x, self.tensor(x)
        return f"MNN {self.library.version()}"

    def tensor(self, array):
        caffe = self.library.Tensor_DimensionType_Caffe
        return self.library.Tensor(array.shape, self.library.Halide_Type_Float, array, caffe)

    def call(self):
        # It uses the memory of the input for other things, so the input has to be copied every time.
        self.x.copyFrom(self.source)
        self.interpreter.runSession(self.session)

    def output(self):
        self.call()
        y = self.interpreter.getSessionOutput(self.session)
        plain = self.tensor(np.zeros(y.getShape(), np.float32))
        y.copyToHostTensor(plain)
        return np.array(plain.getNumpyData())


ENGINES = {
    "ort": OnnxRuntime,
    "openvino": OpenVino,
    "openvino-bf16": lambda threads: OpenVino(threads, "bf16"),
    "torch": Torch,
    "torch-channels-last": lambda threads: Torch(threads, channels_last=True),
    "torch-compile": lambda threads: Torch(threads, channels_last=True, compiled=True),
    # A model in bf16, not autocast: that converts weights again in every call. Channels last is the faster format.
    "torch-bf16": lambda threads: Torch(threads, channels_last=True, dtype="bfloat16"),
    "torch-compile-bf16": lambda threads: Torch(threads, channels_last=True, compiled=True, dtype="bfloat16"),
    "torch-f64": lambda threads: Torch(threads, dtype="float64"),
    "ncnn": Ncnn,
    "mnn": Mnn,
}


# What the files of the requests that prepare a layer hold.
OPERANDS = {"prepare": ("x", "filter"), "data": ("y", "filter"), "weights": ("x", "y"), "transposed": ("y", "filter")}


def answer(engine, request):
    verb, *words = request.split()
    is_volume = verb == "volume"
    if is_volume:
        verb, *words = words
    if verb in OPERANDS:
        *files, ring = words[:3]
        if ring != "0":
            raise ValueError("there is no ring for these engines")
        if not hasattr(engine, verb):
            raise ValueError("this engine computes no gradients")
        layer = (Volume.of if is_volume else Layer)(*map(int, words[3:]))
        layer.load(OPERANDS[verb], files)
        return getattr(engine, verb)(layer)
    if verb == "network":
        model, x_file, *shape = words
        return engine.network(model, np.fromfile(x_file, np.float32).reshape(*map(int, shape)))
    if verb == "output":
        np.ascontiguousarray(engine.output()).tofile(words[0])
        return ""
    if verb == "time":
        calls = range(int(words[0]))
        engine.call()
        start = time.perf_counter()
        for _ in calls:
            engine.call()
        return repr(time.perf_counter() - start)
    raise ValueError(f"no request is called {verb}")


def main():
    name, threads = sys.argv[1], int(sys.argv[2])
    # Some engines talk: whatever they print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = ENGINES[name](threads)
    for request in sys.stdin:
        try:
            text = "ok " + answer(engine, request)
        except Exception as error:
            text = f"error {error!r}".replace("\n", " ")
        answers.write(text + "\n")


main()
