"""Optimized models: weights that change, residuals in other memory, and PyTorch's transforms of functions."""

import gc
import pickle

import convkernels as ck
import numpy as np
import pytest
from reference import assert_close, conv2d, random

torch = pytest.importorskip("torch")
import convkernels.torch as ckt  # noqa: E402
from torch import nn  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def tensor(shape, seed=0):
    return torch.from_numpy(random(shape, seed))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def convolution(model):
    return next(module for module in model.modules() if isinstance(module, ckt.Convolution))


def model_of(kind):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    if kind == "alone":
        return conv.eval()
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()


# Weights.


@pytest.mark.parametrize("kind", ["alone", "segment"])
@pytest.mark.parametrize("made", ["outside", "optimized inside", "everything inside"])
@pytest.mark.parametrize("change", ["in place", "load_state_dict", "before the first run"])
def test_changes_in_inference_mode_are_seen(kind, made, change):
    x = tensor((1, 4, 9, 9))
    with torch.inference_mode(made == "everything inside"):
        model = model_of(kind)
    with torch.inference_mode(made != "outside"):
        optimized = ckt.optimize(model)
    weight = convolution(optimized).weight
    with torch.inference_mode():
        if change != "before the first run":
            optimized(x)
        if change == "load_state_dict":
            optimized.load_state_dict({key: 2 * value for key, value in optimized.state_dict().items()})
        else:
            weight.mul_(2)
        actual = optimized(x)
        fresh = pickle.loads(pickle.dumps(optimized))
        close(actual, fresh(x))
    torch.testing.assert_close(convolution(fresh).weight, weight)


@pytest.mark.parametrize("number", [2.0, float("nan")])
def test_weights_made_in_inference_mode_later(number):
    x, optimized = tensor((1, 4, 9, 9)), ckt.optimize(model_of("alone"))
    with torch.inference_mode():
        weight = nn.Parameter(torch.full((4, 4, 3, 3), number), requires_grad=False)
        optimized.weight = weight
        assert weight.is_inference()
        for _ in range(3):
            torch.testing.assert_close(
                optimized(x), F.conv2d(x, weight, optimized.bias, padding=1), rtol=1e-4, atol=1e-4, equal_nan=True
            )
            weight.add_(1)


def test_kept_weights_are_not_packed_again():
    with torch.inference_mode():
        optimized, x = ckt.optimize(model_of("alone")), tensor((1, 4, 9, 9))
        optimized(x)
        plan = optimized.plan
        optimized(x)
        assert plan is not None and optimized.plan is plan
        optimized.weight = nn.Parameter(tensor((4, 4, 3, 3)), requires_grad=False)
        optimized.weight[0, 0, 0, 0] = float("nan")
        optimized(x)
        plan = optimized.plan
        optimized(x)
        assert optimized.plan is plan


def test_another_tensor_at_the_same_address():
    """The memory of the packed weights stays theirs, so that new weights never look like the old ones."""
    optimized, x = ckt.optimize(model_of("alone")), tensor((1, 4, 9, 9))
    with torch.no_grad():
        for number in range(20):
            # In another memory order, so that the plan holds a copy.
            weight = torch.full((4, 3, 3, 4), float(number)).permute(0, 3, 1, 2)
            optimized.weight.data = weight
            del weight
            gc.collect()
            close(optimized(x), F.conv2d(x, torch.full((4, 4, 3, 3), float(number)), optimized.bias, padding=1))


def test_the_same_memory_in_another_order():
    optimized, x = ckt.optimize(model_of("alone")), tensor((1, 4, 9, 9))
    with torch.no_grad():
        optimized(x)
        weight = optimized.weight
        optimized.weight = nn.Parameter(weight.detach().transpose(2, 3), requires_grad=False)
        assert optimized.weight.data_ptr() == weight.data_ptr()
        close(optimized(x), F.conv2d(x, weight.transpose(2, 3), optimized.bias, padding=1))


def test_weights_that_need_gradients_again():
    optimized, x = ckt.optimize(model_of("alone")), tensor((1, 4, 9, 9))
    optimized(x)
    optimized.weight.requires_grad_()
    optimized(x).sum().backward()
    assert optimized.weight.grad is not None
    with torch.no_grad():
        optimized(x)
        assert optimized.plan is not None
    assert pickle.loads(pickle.dumps(optimized)).plan is None


def test_packed_weights_of_another_dtype_are_freed():
    optimized, x = ckt.optimize(model_of("alone")), tensor((1, 4, 9, 9))
    optimized(x)
    optimized.double()(x.double())
    assert optimized.plan is None


# Residuals.


@pytest.mark.parametrize("last", [False, True])
def test_a_residual_in_another_memory_order(last):
    x, weight, residual = random((2, 4, 9, 10)), random((6, 4, 3, 3), 1), random((2, 6, 9, 10), 2)
    expected = conv2d(x, weight, padding=(1,) * 4) + residual
    swapped = np.ascontiguousarray((x if last else residual).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    x, residual = (swapped, residual) if last else (x, swapped)
    plan = ck.ConvPlan(weight, padding=1)
    y = plan(x, residual=residual)
    assert_close(y, expected)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous == last
    with pytest.raises(ValueError, match="residual"):
        plan(x, residual=residual[:, :5])
    out = np.empty_like(y)
    assert_close(plan(x, out, residual=residual), expected)


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return self.conv(a) + b


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, t):
        x = t[:, :, :8].transpose(1, 2)
        return self.conv(x) + x


def compare(model, *inputs):
    with torch.inference_mode():
        close(ckt.optimize(model.eval())(*inputs), model(*inputs))


def test_residuals_that_are_parts_of_tensors():
    x = tensor((2, 8, 9, 10))
    compare(Halves(), x)
    compare(Halves(), x.to(memory_format=torch.channels_last))
    compare(Line(), tensor((2, 20, 12)))


class Plus(nn.Module):
    def __init__(self, dimensions, addend):
        super().__init__()
        self.conv = (nn.Conv1d if dimensions == 1 else nn.Conv2d)(4, 4, 3, padding=1)
        self.register_buffer("addend", addend)

    def forward(self, x):
        return F.relu(self.conv(x) + self.addend)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("shape", [(), (9,), (1,), (4, 9), (1, 4, 9), (3, 2, 4, 9), (1, 1, 1, 1, 1)])
def test_addends_of_other_shapes(dimensions, shape):
    x = tensor((2, 4, 9) if dimensions == 1 else (2, 4, 9, 9))
    model = Plus(dimensions, torch.from_numpy(np.asarray(random(shape, 1), np.float32)))
    try:
        with torch.inference_mode():
            model(x)
    except RuntimeError as expected:
        with pytest.raises(RuntimeError, match="must match"), torch.inference_mode():
            ckt.optimize(model.eval())(x)
        assert "must match" in str(expected)
    else:
        compare(model, x)


# Transforms of functions.


@pytest.mark.parametrize("kind", ["alone", "segment"])
def test_tangents(kind):
    model, x, t = model_of(kind).requires_grad_(False), tensor((1, 4, 9, 9)), tensor((1, 4, 9, 9), 1)
    optimized = ckt.optimize(model)
    with torch.no_grad(), forward_ad.dual_level():
        mine, theirs = (forward_ad.unpack_dual(f(forward_ad.make_dual(x, t))) for f in (optimized, model))
    close(mine.primal, theirs.primal)
    close(mine.tangent, theirs.tangent)
    for mine, theirs in zip(*(torch.func.jvp(f, (x,), (t,)) for f in (optimized, model))):
        close(mine, theirs)
    close(optimized(x), model(x))


@pytest.mark.parametrize("kind", ["alone", "segment"])
def test_vmap_and_grad(kind):
    model, x = model_of(kind).requires_grad_(False), tensor((3, 1, 4, 9, 9))
    optimized = ckt.optimize(model)
    close(torch.func.vmap(optimized)(x), torch.func.vmap(model)(x))
    mine, theirs = (torch.func.grad(lambda x, f=f: f(x).square().sum())(x[0]) for f in (optimized, model))
    close(mine, theirs)


def test_a_plan_refuses_tangents():
    plan, x = ck.ConvPlan(tensor((4, 4, 3, 3))), tensor((1, 4, 9, 9))
    with forward_ad.dual_level(), pytest.raises(ValueError, match="x: expected a tensor without a tangent"):
        plan(forward_ad.make_dual(x, x))
    with forward_ad.dual_level():
        plan(x)


# The operator.


@pytest.mark.parametrize(
    "cut",
    [
        lambda y: y[:, :4],
        lambda y: y[:, :1],
        lambda y: y[:, :, :, :1],
        lambda y: y[:, :, :1],
        lambda y: y[:1, :, ::2],
        lambda y: y.contiguous()[:, :4],
        lambda y: y.transpose(1, 3)[:, :4],
        lambda y: y.contiguous().transpose(2, 3),
        lambda y: y.contiguous().transpose(1, 3),
    ],
)
def test_the_memory_order_of_the_operator(cut):
    x = cut(tensor((2, 8, 9, 8)).to(memory_format=torch.channels_last))
    weight = tensor((6, x.shape[1], 1, 1), 1)
    arguments = x, weight, None, [1, 1], [0, 0], [1, 1], 1
    real = torch.ops.convkernels.conv2d(*arguments)
    close(real, F.conv2d(x, weight))
    with torch._subclasses.FakeTensorMode() as mode:
        fake = torch.ops.convkernels.conv2d(*(mode.from_tensor(a) if torch.is_tensor(a) else a for a in arguments))
    wide = [axis for axis in range(4) if real.shape[axis] > 1]
    assert [fake.stride(axis) for axis in wide] == [real.stride(axis) for axis in wide]
    torch.library.opcheck(torch.ops.convkernels.conv2d, arguments)
