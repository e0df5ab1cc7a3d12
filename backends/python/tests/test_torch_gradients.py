"""Gradients and transposed convolutions against PyTorch's own, and modules that train."""

import copy

import pytest
from reference import random

torch = pytest.importorskip("torch")
import convkernels.torch as ckt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

EPSILON = torch.finfo(torch.float32).eps


def tensor(shape, seed=0):
    return torch.from_numpy(random(shape, seed))


def close(actual, expected, terms):
    """Within the rounding errors of a sum of so many terms: as they grow on average, with the root, four times over.

    ``expected`` is computed in float64. The errors are compared with the norm, because single sums can cancel.
    """
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    error = (actual.double() - expected).norm() / expected.norm()
    assert error <= 4 * EPSILON * terms**0.5, f"relative L2 {error}, {terms} terms"


CASES = [
    # kernel, stride, padding, dilation, groups
    ((1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((3, 2), (1, 2), (2, 0), (2, 1), 2),
    ((5, 5), (3, 2), (2, 2), (1, 1), 1),
    ((3, 3), (1, 1), (1, 1), (1, 1), 8),
    ((2, 2), (3, 3), (0, 0), (1, 1), 4),
    ((4, 1), (2, 1), (1, 0), (1, 3), 2),
    ((3, 3), (2, 2), (2, 2), (3, 3), 1),
]


def order(x, last):
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def gradients(function, tensors, factor):
    """The gradients of a sum that weighs the outputs."""
    copies = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors]
    output = function(*copies)
    (output * factor.to(output.dtype)).sum().backward()
    return output.detach(), [x.grad for x in copies]


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_conv2d(case, last):
    kernel, stride, padding, dilation, groups = case
    window = stride, padding, dilation, groups
    x = order(tensor((3, 16, 14, 13)), last)
    weight, bias = tensor((24, 16 // groups, *kernel), 1), tensor(24, 2)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), *window)
    factor = tensor(exact.shape, 3)
    output, mine = gradients(lambda *t: ckt.conv2d(*t, *window), (x, weight, bias), factor)
    exact, theirs = gradients(lambda *t: F.conv2d(*t, *window), (x.double(), weight.double(), bias.double()), factor)
    taps, pixels = kernel[0] * kernel[1], output.numel() // 24
    close(output, exact, 16 // groups * taps)
    for got, expected, terms in zip(mine, theirs, (24 // groups * taps, pixels, pixels)):
        close(got, expected, terms)
    if last and output.shape[1] > 1:
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert mine[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_conv_transpose2d(case, extra, last):
    kernel, stride, padding, dilation, groups = case
    output_padding = tuple(min(extra, max(s, d) - 1) for s, d in zip(stride, dilation))
    window = stride, padding, output_padding, groups, dilation
    x = order(tensor((3, 16, 7, 6)), last)
    weight, bias = tensor((16, 24 // groups, *kernel), 1), tensor(24, 2)
    exact = F.conv_transpose2d(x.double(), weight.double(), bias.double(), *window)
    factor = tensor(exact.shape, 3)
    output, mine = gradients(lambda *t: ckt.conv_transpose2d(*t, *window), (x, weight, bias), factor)
    exact, theirs = gradients(
        lambda *t: F.conv_transpose2d(*t, *window), (x.double(), weight.double(), bias.double()), factor
    )
    taps = kernel[0] * kernel[1]
    close(output, exact, 16 // groups * taps)
    for got, expected, terms in zip(mine, theirs, (24 // groups * taps, 3 * 7 * 6, output.numel() // 24)):
        close(got, expected, terms)


@pytest.mark.parametrize("wanted", range(1, 8))
def test_only_what_needs_a_gradient(wanted, monkeypatch):
    """The library is called for the gradients that are needed, and for no others."""
    from convkernels import _torch_operator as operator

    called = []
    for name in ("input_gradient", "weight_gradient"):
        native = getattr(operator, name)
        monkeypatch.setattr(operator, name, lambda *a, n=name, f=native: (called.append((n, a[-2])), f(*a))[1])
    shapes = ((2, 4, 9, 10), (8, 4, 3, 3), (8,))
    mine = [tensor(shape, i).requires_grad_(bool(wanted >> i & 1)) for i, shape in enumerate(shapes)]
    theirs = [x.detach().clone().requires_grad_(x.requires_grad) for x in mine]
    ckt.conv2d(*mine, padding=1).square().sum().backward()
    F.conv2d(*theirs, padding=1).square().sum().backward()
    for got, expected in zip(mine, theirs):
        assert (got.grad is None) == (expected.grad is None)
        if got.grad is not None:
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-3)
    assert [name for name, _ in called] == ["input_gradient"] * (wanted & 1) + ["weight_gradient"] * (wanted >> 1 & 1)
    assert all(bias == bool(wanted >> 2 & 1) for name, bias in called if name == "weight_gradient")


def test_functional_jacobians():
    x, weight, bias = tensor((1, 2, 5, 4)), tensor((3, 2, 3, 3), 1), tensor(3, 2)
    for mine, reference in [
        (ckt.conv2d, F.conv2d),
        (lambda x, w, b: ckt.conv_transpose2d(x, w.transpose(0, 1), b, 2), None),
    ]:
        reference = reference or (lambda x, w, b: F.conv_transpose2d(x, w.transpose(0, 1), b, 2))
        got = torch.autograd.functional.jacobian(mine, (x, weight, bias))
        exact = torch.autograd.functional.jacobian(reference, (x.double(), weight.double(), bias.double()))
        for a, b in zip(got, exact):
            close(a, b, 18)
        vector = tensor(mine(x, weight, bias).shape, 3)
        got = torch.autograd.functional.vjp(mine, (x, weight, bias), vector)[1]
        exact = torch.autograd.functional.vjp(reference, (x.double(), weight.double(), bias.double()), vector.double())[
            1
        ]
        for a, b in zip(got, exact):
            close(a, b, 60)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_gradients_of_gradients(name):
    """A Hessian-vector product of a function that is not linear in anything."""

    def of(function):
        return lambda x, w, b: function(x, w, b, 2).square().sum()

    x, weight, bias = tensor((2, 4, 6, 7)), tensor((4, 4, 3, 3), 1), tensor(4, 2)
    vectors = tensor(x.shape, 3), tensor(weight.shape, 4), tensor(4, 5)
    got = torch.autograd.functional.hvp(of(getattr(ckt, name)), (x, weight, bias), vectors)[1]
    doubles = [tuple(t.double() for t in group) for group in ((x, weight, bias), vectors)]
    exact = torch.autograd.functional.hvp(of(getattr(F, name)), *doubles)[1]
    for a, b in zip(got, exact):
        close(a, b, 1000)


def test_the_operators_are_registered_well():
    window = [2, 1], [1, 0], [1, 1], 2
    x, weight, bias = tensor((2, 4, 9, 10)), tensor((8, 2, 3, 2), 1), tensor(8, 2)
    small = F.conv2d(x, weight, None, *window)
    operators = torch.ops.convkernels
    for last in (False, True):
        x, small = order(x, last), order(small, last)
        tensors = [t.detach().requires_grad_() for t in (x, small, weight, bias)]
        large, gradient, filters, shift = tensors
        torch.library.opcheck(operators.conv2d_input, (gradient, filters, list(x.shape), *window))
        torch.library.opcheck(operators.conv2d_weight, (large, gradient, list(weight.shape), True, *window))
        transposed = (gradient, filters, tensor(4, 3).requires_grad_(), *window[:2], [1, 0], *window[2:])
        torch.library.opcheck(operators.conv_transpose2d, transposed)


def test_errors():
    with pytest.raises(ValueError, match="input channels of the weights"):
        ckt.conv_transpose2d(tensor((1, 4, 9, 9)), tensor((8, 3, 3, 3)))
    with pytest.raises(ValueError, match="output_pad"):
        ckt.conv_transpose2d(tensor((1, 8, 9, 9)), tensor((8, 3, 3, 3)), output_padding=1)
    with pytest.raises(ValueError, match="shapes"):
        ckt.conv_transpose2d(tensor((9, 9)), tensor((8, 3, 3, 3)))
    with pytest.raises(ValueError, match="grad_output"):
        sizes = [1, 4, 9, 9], [1, 1], [0, 0], [1, 1], 1
        torch.ops.convkernels.conv2d_input(tensor((1, 8, 9, 9)), tensor((8, 4, 3, 3)), *sizes)


# Modules that train.


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.same = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)
        self.wrap = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.up = nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)

    def forward(self, x):
        return self.up(self.wrap(torch.tanh(self.same(torch.tanh(self.down(x))))))


def losses(model, x, steps):
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_a_loss_falls_equally(last):
    torch.manual_seed(0)
    theirs = Network()
    mine = ckt.trainable(copy.deepcopy(theirs))
    assert type(mine.down) is ckt.Conv2d and type(mine.up) is ckt.ConvTranspose2d
    x = order(tensor((4, 3, 16, 16)), last)
    got, expected = losses(mine, x, 30), losses(theirs, x, 30)
    assert got[-1] < 0.9 * got[0]
    # Rounding errors grow from step to step.
    assert got == pytest.approx(expected, rel=1e-4)


def test_trainable_keeps_the_parameters():
    model = Network()
    parameters, state = list(model.parameters()), list(model.state_dict())
    hooks = []
    model.down.register_forward_hook(lambda *_: hooks.append(1))
    assert ckt.trainable(model) is model
    assert all(a is b for a, b in zip(model.parameters(), parameters)) and list(model.state_dict()) == state
    model(tensor((1, 3, 8, 8)))
    assert hooks == [1]
    alone = nn.Conv2d(3, 4, 3)
    replaced = ckt.trainable(alone)
    assert type(replaced) is ckt.Conv2d and replaced.weight is alone.weight
    # A module that is in two places is so afterwards.
    twice = nn.ModuleDict({"a": alone, "b": alone})
    ckt.trainable(twice)
    assert twice["a"] is twice["b"] and type(twice["a"]) is ckt.Conv2d


def test_modules_fall_back():
    conv, up = ckt.Conv2d(3, 4, 3), ckt.ConvTranspose2d(3, 4, 2, stride=2)
    x = tensor((2, 3, 9, 9))
    for module in (conv, up):
        twin = (nn.Conv2d if module is conv else nn.ConvTranspose2d)(*([3, 4, 3] if module is conv else [3, 4, 2, 2]))
        twin.load_state_dict(module.state_dict())
        torch.testing.assert_close(module(x), twin(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module(x[0]), twin(x[0]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module(x[:0]), twin(x[:0]))
        assert torch.equal(copy.deepcopy(module).double()(x.double()), twin.double()(x.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    assert torch.func.vmap(conv)(x.unsqueeze(0)).shape == (1, 2, 4, 7, 7)
    sized = up(x, output_size=[19, 19])
    assert sized.shape == (2, 4, 19, 19)
