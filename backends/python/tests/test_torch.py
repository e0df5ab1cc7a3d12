"""convkernels with PyTorch: tensors, the registered operator, and optimized models."""

import copy
import io
import pickle
import threading
import warnings

import convkernels as ck
import numpy as np
import pytest
from reference import assert_close, conv2d, random

torch = pytest.importorskip("torch")
import convkernels.torch as ckt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def tensor(shape, seed=0):
    return torch.from_numpy(random(shape, seed))


def close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    assert error <= tolerance, f"relative L2 {error}"


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, ckt.Convolution)]


# Tensors.


def test_tensors_in_tensors_out():
    x, weight, bias = tensor((2, 4, 9, 10)), tensor((6, 4, 3, 3), 1), tensor(6, 2)
    y = ck.conv2d(x, weight, bias, padding=1)
    assert type(y) is torch.Tensor
    assert_close(y.numpy(), conv2d(x.numpy(), weight.numpy(), bias.numpy(), padding=(1,) * 4))
    plan = ck.ConvPlan(weight, bias, padding=1)
    out = torch.empty_like(y)
    assert plan(x, out=out) is out
    torch.testing.assert_close(out, y)
    last = plan(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert_close(last.numpy(), y.numpy())


def test_memory_is_shared():
    """The output of a plan is not copied into a tensor, and the input is read where it is."""
    plan = ck.ConvPlan(np.ones((1, 1, 1, 1), np.float32))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 3
    assert plan(x).sum() == 3
    out = torch.zeros(1, 1, 4, 4)
    plan(x, out=out)
    assert out.sum() == 3


@pytest.mark.parametrize(
    "x, error, words",
    [
        (torch.zeros(1, 4, 9, 9, dtype=torch.float64), TypeError, "expected dtype float32, got torch.float64"),
        (torch.zeros(1, 4, 9, 9, dtype=torch.bfloat16), TypeError, "convert it with .float"),
        (torch.zeros(1, 4, 9, 9, device="meta"), ValueError, "expected a tensor on the CPU, got one on meta"),
        (torch.zeros(1, 4, 9, 9).to_sparse(), TypeError, "dense"),
        (torch.zeros(1, 4, 9, 9, requires_grad=True), ValueError, "gradients"),
    ],
)
def test_other_tensors(x, error, words):
    with pytest.raises(error, match=words):
        ck.ConvPlan(tensor((6, 4, 3, 3)))(x)


# The operator.


@pytest.mark.parametrize(
    "stride, padding, dilation, groups",
    [(1, 0, 1, 1), (2, 1, 1, 1), ((1, 2), (2, 0), (2, 1), 2), (1, "same", 2, 4), (1, "valid", 1, 1)],
)
def test_the_operator_and_its_gradients(stride, padding, dilation, groups):
    arguments = [tensor((2, 4, 9, 10)), tensor((8, 4 // groups, 3, 2), 1), tensor(8, 2)]
    ours, theirs = ([a.clone().requires_grad_() for a in arguments] for _ in range(2))
    y = ckt.conv2d(*ours, stride, padding, dilation, groups)
    expected = F.conv2d(*theirs, stride, padding, dilation, groups)
    close(y, expected)
    factor = tensor(expected.shape, 3)
    (y * factor).sum().backward()
    (expected * factor).sum().backward()
    for mine, reference in zip(ours, theirs):
        close(mine.grad, reference.grad)


def test_one_dimension():
    x, weight = tensor((2, 4, 30)).requires_grad_(), tensor((8, 2, 5), 1).requires_grad_()
    y = ck.conv1d(x, weight, None, 2, 3, 2, 2)
    close(y, F.conv1d(x, weight, None, 2, 3, 2, 2))
    y.sum().backward()
    assert x.grad.shape == x.shape and weight.grad.shape == weight.shape


def test_the_operator_is_registered_well():
    arguments = [t.requires_grad_() for t in (tensor((2, 4, 9, 10)), tensor((8, 2, 3, 2), 1), tensor(8, 2))]
    torch.library.opcheck(torch.ops.convkernels.conv2d, (*arguments, [2, 1], [1, 0], [1, 1], 2))
    arguments[0] = arguments[0].detach().to(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.convkernels.conv2d, (*arguments, [1, 1], [1, 1], [1, 1], 2))


def test_errors_of_the_operator():
    with pytest.raises(ValueError, match="input.c: expected 3"):
        ckt.conv2d(tensor((1, 4, 9, 9)), tensor((8, 3, 3, 3)))
    with pytest.raises(ValueError, match="shapes"):
        ckt.conv2d(tensor((9, 9)), tensor((8, 3, 3, 3)))
    with pytest.raises(TypeError, match="stride"):
        ckt.conv2d(tensor((1, 3, 9, 9)), tensor((8, 3, 3, 3)), stride=1.5)


# Models.


class Block(nn.Module):
    """A residual block with every way to write its parts."""

    def __init__(self, channels=8, activation=None, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias, groups=2)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.activation = activation or nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return self.activation(y)


def trained(model):
    """Statistics and weights that are not the ones of a new module."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.weight is not None:
                module.weight.data.uniform_(0.5, 2, generator=generator)
                module.bias.data.normal_(generator=generator)
    return model.eval()


def compare(model, *inputs, number=None):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(*inputs)
        optimized = ckt.optimize(model)
        close(optimized(*inputs), expected)
        close(optimized(*inputs), expected)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if number is not None:
        assert len(convolutions(optimized)) == number
    return optimized


@pytest.mark.parametrize("level, bound", [("strict", 2e-6), ("tf32", 5e-4), ("bf16", 4e-3)])
def test_numerics(level, bound):
    model, x = trained(Block()), tensor((2, 8, 12, 13))
    optimized = ckt.optimize(model, numerics=level)
    assert [c.numerics for c in convolutions(copy.deepcopy(optimized))] == 3 * [level]
    assert ckt.optimize(nn.Conv2d(3, 3, 3), numerics=level).numerics == level
    with torch.inference_mode():
        close(optimized(x), model(x), 10 * bound)
    with pytest.raises(ValueError, match="numerics: expected one of"):
        ckt.optimize(model, numerics="exact")
    with pytest.raises(TypeError, match="numerics: expected one of"):
        ckt.optimize(model, numerics=torch.bfloat16)


ACTIVATIONS = [
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.SiLU(),
    nn.Hardswish(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.LeakyReLU(0.3),
    nn.ELU(1.5),
    nn.Hardtanh(-2, 3),
    nn.GELU(),
    nn.PReLU(),
    nn.Identity(),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("bias", [False, True])
def test_blocks(activation, bias):
    optimized = compare(trained(Block(8, activation, bias)), tensor((2, 8, 12, 13)), number=3)
    left = [node for node in optimized.graph.nodes if node.op in ("call_function", "call_method")]
    assert not left, "the sum is fused"
    fused = [c.activation for c in convolutions(optimized)]
    if not isinstance(activation, (nn.GELU, nn.PReLU, nn.Identity)):
        assert sum(a is not None for a in fused) == 2


class Shapes(nn.Module):
    """Sums and activations that must not be fused, or only with care."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        if self.kind == "broadcast":
            return F.relu(self.conv(x) + self.other(x))
        if self.kind == "read twice":
            y = self.conv(x)
            return F.relu(y) + y
        if self.kind == "changed in place":
            x = x + 0
            y = self.conv(x)
            x.mul_(2)
            return y + x
        if self.kind == "changed before the activation":
            x = x + 0
            y = self.conv(x)
            x *= 2
            return F.relu(y) * x
        if self.kind == "changed under another name":
            x = x + 0
            view = x[:, 1:]
            y = self.conv(x)
            view -= 1
            return y + x
        if self.kind == "sum with itself":
            y = self.conv(x)
            return y + y
        if self.kind == "shared":
            return self.conv(F.relu(self.conv(x)))
        if self.kind == "factor":
            return torch.add(self.conv(x), x, alpha=2)
        if self.kind == "number":
            return self.conv(x) + 1
        if self.kind == "other changes":
            x = x + 0
            y = x
            y += self.conv(x)
            return y * x
        if self.kind == "method":
            return self.conv(x).add(x).relu()
        return self.conv(x).relu_()


KINDS = [
    "broadcast",
    "read twice",
    "changed in place",
    "changed before the activation",
    "changed under another name",
    "sum with itself",
    "shared",
    "factor",
    "number",
    "other changes",
    "method",
    "in place",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_must_stay_as_it_is(kind):
    compare(Shapes(kind).eval(), tensor((2, 4, 9, 9)))


def test_one_dimensional_model():
    model = nn.Sequential(
        nn.Conv1d(4, 8, 5, 2, 2),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Conv1d(8, 6, 4, padding="same", dilation=2),
        nn.SiLU(),
    )
    compare(trained(model), tensor((3, 4, 50)), number=2)
    del model[1]
    compare(model, tensor((4, 50)), number=2)


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last(channels_last):
    order = torch.channels_last if channels_last else torch.contiguous_format
    model = trained(nn.Sequential(Block(16), nn.MaxPool2d(3, 2, 1), Block(16))).to(memory_format=order)
    x = tensor((2, 16, 20, 21)).to(memory_format=order)
    optimized = compare(model, x, number=6)
    with torch.inference_mode():
        assert optimized(x).is_contiguous(memory_format=order)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((2, 3), (1, 2), (1, 0), (2, 1)),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ],
)
def test_max_pool(pool):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), pool).eval()
    compare(model, tensor((2, 4, 13, 14)))
    compare(model, tensor((4, 13, 14)))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else -self.conv(x)


def test_a_model_that_cannot_be_traced():
    model, x = Branches().eval(), tensor((1, 4, 9, 9))
    with pytest.warns(UserWarning, match="only modules are replaced, because torch.fx cannot trace the model"):
        optimized = ckt.optimize(model)
    assert type(optimized) is Branches and isinstance(optimized.conv, ckt.Convolution)
    with torch.inference_mode():
        close(optimized(x), model(x))
        close(optimized(-x), model(-x))


def test_a_module_alone_and_others():
    model, x = nn.Conv2d(4, 4, 3, padding=1).eval(), tensor((1, 4, 9, 9))
    optimized = ckt.optimize(model)
    assert isinstance(optimized, ckt.Convolution)
    with torch.inference_mode():
        close(optimized(x), model(x))
    reflecting = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    assert not convolutions(ckt.optimize(reflecting))
    double = nn.Sequential(nn.Conv2d(4, 4, 3).double())
    assert not convolutions(ckt.optimize(double))
    with pytest.raises(TypeError, match="model: expected a torch.nn.Module, got int"):
        ckt.optimize(3)


def test_modules_with_hooks_stay():
    model, calls, x = trained(Block()), [], tensor((1, 8, 9, 9))
    model.conv1.register_forward_hook(lambda *_: calls.append("conv1"))
    model.norm2.register_forward_pre_hook(lambda *_: calls.append("norm2"))
    optimized = ckt.optimize(model)
    with torch.inference_mode():
        y = optimized(x)
    assert sorted(calls) == ["conv1", "norm2"]
    with torch.inference_mode():
        close(y, model(x))


def test_other_dtypes_fall_back():
    model, x = trained(Block()), tensor((2, 8, 12, 13))
    optimized = ckt.optimize(model)
    with torch.inference_mode():
        close(copy.deepcopy(optimized).double()(x.double()), copy.deepcopy(model).double()(x.double()), 1e-6)
        close(copy.deepcopy(optimized).bfloat16()(x.bfloat16()), copy.deepcopy(model).bfloat16()(x.bfloat16()), 0.05)
        close(optimized(x), model(x))


def test_empty_batches_fall_back():
    model = trained(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)))
    with torch.inference_mode():
        assert ckt.optimize(model)(torch.zeros(0, 4, 9, 9)).shape == (0, 6, 3, 3)


def test_gradients_of_the_input_fall_back():
    model, x = trained(Block(8, nn.ReLU())), tensor((2, 8, 12, 13))
    optimized = ckt.optimize(model)
    gradients = []
    for f in (model, optimized):
        leaf = x.clone().requires_grad_()
        f(leaf).square().sum().backward()
        gradients.append(leaf.grad)
    close(*gradients)
    assert all(not p.requires_grad for p in optimized.parameters())


def test_changed_weights_are_packed_again():
    model, x = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)).eval(), tensor((1, 4, 9, 9))
    optimized = ckt.optimize(model)
    with torch.no_grad():
        first = optimized(x)
        conv = convolutions(optimized)[0]
        conv.weight.mul_(2)
        conv.bias.zero_()
        second = optimized(x)
        close(second, 2 * F.conv2d(x, model[0].weight, None, padding=1))
        conv.weight = nn.Parameter(conv.weight / 2, requires_grad=False)
        conv.bias.copy_(model[0].bias)
        close(optimized(x), first)


def test_state_dict():
    optimized, x = ckt.optimize(trained(Block())), tensor((1, 8, 9, 9))
    other = copy.deepcopy(optimized)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert other(x).abs().sum() == 0
        other.load_state_dict(optimized.state_dict())
        close(other(x), optimized(x))


@pytest.mark.parametrize("make", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(make):
    optimized, x = ckt.optimize(trained(nn.Sequential(Block(), nn.MaxPool2d(2), nn.Flatten()))), tensor((1, 8, 9, 9))
    with torch.inference_mode():
        expected = optimized(x)
        torch.testing.assert_close(make(optimized)(x), expected)
        torch.testing.assert_close(make(make(optimized))(x), expected)


def test_torch_save():
    optimized, x = ckt.optimize(trained(Block())), tensor((1, 8, 9, 9))
    with torch.inference_mode():
        expected, file = optimized(x), io.BytesIO()
        torch.save(optimized, file)
        file.seek(0)
        torch.testing.assert_close(torch.load(file, weights_only=False)(x), expected)


def test_compile_and_export_see_pytorch():
    model, x = trained(Block()), tensor((1, 8, 9, 9))
    with torch.inference_mode():
        expected = model(x)
    with torch.no_grad():
        exported = torch.export.export(ckt.optimize(model), (x,))
        close(exported.module()(x), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            close(torch.jit.trace(ckt.optimize(model), x)(x), expected)


def test_eight_threads_run_one_model():
    optimized = ckt.optimize(trained(Block()))
    inputs = [tensor((1 + i % 2, 8, 10 + i, 11), i) for i in range(8)]
    wrong, start = [], threading.Barrier(8)
    with torch.inference_mode():
        expected = [copy.deepcopy(optimized)(x) for x in inputs]

    def work(first):
        start.wait()
        with torch.inference_mode():
            for turn in range(40):
                number = (first + turn) % 8
                if (optimized(inputs[number]) - expected[number]).abs().max() > 1e-4:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vgg11_bn",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "densenet121",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
        "googlenet",
        "convnext_tiny",
    ],
)
def test_torchvision(name):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = trained(getattr(torchvision.models, name)(weights=None, **options))
    compare(model, tensor((1, 3, 96, 96)))
