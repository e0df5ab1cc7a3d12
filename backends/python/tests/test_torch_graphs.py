"""What ``optimize`` must not change in a model: hooks, tensors made by the model, attributes, calls by name."""

import copy
import warnings

import pytest
from reference import random

torch = pytest.importorskip("torch")
import convkernels.torch as ckt  # noqa: E402
from convkernels._torch_segments import Segment  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def tensor(shape, seed=0):
    return torch.from_numpy(random(shape, seed))


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, ckt.Convolution)]


def compare(model, x, number):
    """The same results in three calls, and the number of replaced convolutions."""
    expected = copy.deepcopy(model).eval()
    optimized = ckt.optimize(model)
    with torch.inference_mode():
        for _ in range(3):
            torch.testing.assert_close(optimized(x), expected(x), rtol=1e-4, atol=1e-4)
    assert len(convolutions(optimized)) == number
    return optimized


# Tensors that the model makes.


class Accumulates(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(4, 4, 3, padding=1), how

    def forward(self, x):
        acc = torch.zeros(1, 4, 9, 9)
        y = self.conv(x)
        if self.how == "iadd":
            acc += y
        elif self.how == "add_":
            acc.add_(y)
        elif self.how == "setitem":
            acc[:, 1] = y[:, 1]
        elif self.how == "view":
            acc.view(x.shape[0], 36, 9).add_(1)
        elif self.how == "view of a view":
            acc.to(x.device)[0] += 1
        elif self.how == "out":
            torch.add(y, acc, out=acc)
        elif self.how == "function":
            F.relu(acc.sub_(y), inplace=True)
        return acc + y


@pytest.mark.parametrize("how", ["iadd", "add_", "setitem", "view", "view of a view", "out", "function"])
def test_tensors_made_by_the_model_are_not_shared(how):
    with pytest.warns(UserWarning, match="only modules are replaced"):
        optimized = compare(Accumulates(how), tensor((1, 4, 9, 9)), 1)
    assert type(optimized) is Accumulates
    assert not [name for name in vars(optimized) if "constant" in name]


class Reads(nn.Module):
    """Constants that are only read, and results that are changed."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        grid = torch.arange(9.0) * 0.1
        y = grid + self.conv1(x)
        y += grid
        return self.conv2(y * grid)


def test_constants_that_are_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(Reads(), tensor((1, 4, 9, 9)), 2)


# Hooks.


class Stage(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x):
        x = x + 1
        x += self.layers(x)
        return x


HOOKS = {
    "forward": lambda module, calls: module.register_forward_hook(lambda m, args, y: (calls.append("hook"), y * 2)[1]),
    "before": lambda module, calls: module.register_forward_pre_hook(lambda *_: calls.append("hook")),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("where", ["stage", "sequential", "model"])
def test_hooks_of_containers(hook, where):
    model, calls = nn.Sequential(nn.Conv2d(4, 4, 1), Stage(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)), []
    HOOKS[hook]({"stage": model[1], "sequential": model[1].layers, "model": model}[where], calls)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if where == "model" else "error")
        compare(model, tensor((2, 4, 9, 9)), 5)
    assert len(calls) == 6, "three calls of each model"


def test_a_model_with_hooks_is_not_traced():
    model, x = nn.Sequential(nn.Conv2d(4, 4, 1)), tensor((1, 4, 9, 9))
    model.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="it has hooks"):
        compare(model, x, 1)
    alone = nn.Conv2d(4, 4, 1)
    alone.register_forward_hook(lambda m, args, y: y + 1)
    with pytest.warns(UserWarning, match="it has hooks"):
        compare(alone, x, 0)


def test_a_hook_that_changes_its_input():
    def double(module, args):
        args[0].mul_(2)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))
            self.same = nn.Identity()
            self.same.register_forward_pre_hook(double)

        def forward(self, x):
            x = x + 0
            y = self.convs[1](self.convs[0](x))
            z = self.same(x)
            return self.convs[3](self.convs[2](x)) + y + z

    compare(Model(), tensor((1, 4, 9, 9)), 4)


def test_hooks_of_gradients_stay():
    model, calls = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)), []
    model[0].register_full_backward_hook(lambda *_: calls.append("backward"))
    optimized = ckt.optimize(model)
    optimized(tensor((1, 4, 9, 9)).requires_grad_()).sum().backward()
    assert calls == ["backward"] and len(convolutions(optimized)) == 1


# Modules that are replaced one by one.


class Asks(nn.Module):
    """Reads the attributes of its convolutions, and depends on data."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, (3, 1), (2, 1), "valid", (1, 2), 2)
        self.line = nn.Conv1d(6, 6, 3, padding=1)

    def forward(self, x):
        y = self.conv(input=x) if x.sum() > 0 else self.conv(x)
        y = y * self.conv.out_channels + self.conv.stride[0] + self.conv.kernel_size[1] + self.conv.dilation[1]
        z = self.line(y.flatten(2)) * self.line.in_channels
        return F.pad(z, (self.line.padding[0], self.conv.groups, self.conv.in_channels, 0))


NAMES = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]


def test_attributes_of_replaced_modules():
    model = Asks()
    for x in (tensor((2, 4, 9, 9)), tensor((2, 4, 9, 9)) + 3):
        with pytest.warns(UserWarning, match="only modules are replaced"):
            optimized = compare(model, x, 2)
    for name in NAMES:
        for mine, theirs in ((optimized.conv, model.conv), (optimized.line, model.line)):
            assert getattr(mine, name) == getattr(theirs, name)


def test_what_a_failed_trace_leaves():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last, self.calls = nn.Conv2d(4, 4, 1), None, 0

        def forward(self, x):
            self.last, self.calls = x, self.calls + 1
            return self.conv(x) if x.sum() > 0 else x

    with pytest.warns(UserWarning, match="only modules are replaced"):
        optimized = ckt.optimize(Keeps())
    assert optimized.last is None and optimized.calls == 0


# Calls by name.


class Names(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.same = nn.Dropout(), nn.Identity()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.act, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)

    def forward(self, x):
        x = self.same(input=self.drop(input=x + 0))
        y = self.conv1(x)
        z = self.act(input=x)
        F.relu6(input=z, inplace=True)
        return self.pool(input=self.conv2(y + z))


def test_arguments_by_name():
    compare(Names(), tensor((1, 4, 9, 9)), 2)


# Segments.


class Concatenates(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(32, channels, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.last = nn.Conv2d(32 + channels, 32, 1)

    def forward(self, x):
        return self.last(torch.cat([self.first(x), self.second(x)], 1))


@pytest.mark.parametrize("channels", [12, 16, 28])
@pytest.mark.parametrize("last", [False, True])
def test_concatenations_run_in_segments(channels, last, monkeypatch):
    x = tensor((2, 32, 9, 10)).to(memory_format=torch.channels_last if last else torch.contiguous_format)
    optimized = compare(Concatenates(channels), x, 3)
    (segment,) = [module for module in optimized.modules() if isinstance(module, Segment)]
    # Without the layers one by one.
    monkeypatch.setattr(segment.layers, "forward", None)
    with torch.inference_mode():
        assert optimized(x).shape == (2, 32, 9, 10)


def test_inputs_that_do_not_fit_a_segment():
    """They fail each time in the layer that they do not fit, and the segment works afterwards."""
    optimized, x = ckt.optimize(Concatenates(12)), tensor((1, 32, 9, 9))
    with torch.inference_mode():
        for _ in range(2):
            with pytest.raises(ValueError, match="input.c: expected 32"):
                optimized(tensor((1, 31, 9, 9)))
        assert optimized(x).shape == (1, 32, 9, 9)
