#!/usr/bin/env python3
"""Train the same networks in PyTorch and in this library, from the same weights and batches, and compare.

How to run (from the root of the repository; see train_lenet5.py for the venv):

    cargo build --release --example train_steps
    venv/bin/python nets/train/compare_training.py                      # losses of 50 steps
    venv/bin/python nets/train/compare_training.py --time [--threads 2] # images per second, alternating

Losses: exit code 1 if a loss differs by more than 1e-4 relative. Initial weights, masks of dropout and the places of fractional
max-pooling are drawn here and given to both.
Training amplifies rounding: a residual network at a rate of 0.02 is 1e-3 away from itself in float64 after eight steps, in
PyTorch too. The rates are so small that this does not hide errors. The last column is the difference between PyTorch in
float32 and in float64.
Times: each round runs this library and then PyTorch, in NCHW and in channels_last, each in a process of its own, and
the table has the medians of all rounds. Memory is the peak resident memory of each process; that of PyTorch includes its
code.
"""
import argparse
import copy
import json
import math
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.dont_write_bytecode = True  # leave no __pycache__ in the repository
ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1e-4


class LeNet5(nn.Module):
    """The layers of `lenet5` and of its variants. `norm` is the suffix and the constructor of a normalisation."""

    def __init__(self, activation=torch.tanh, norm=None, pooled=(None, None), side=5):
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, side)
        self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, 10)
        self.activation, self.pooled, self.suffix = activation, pooled, norm and norm[0]
        if norm:
            for layer, channels in (("c1", 6), ("c3", 16), ("c5", 120), ("f6", 84)):
                # A submodule cannot have a dot in its name, and `c1.bn` is inside `c1` in the names of the weights.
                getattr(self, layer).add_module(norm[0], norm[1](channels, layer == "f6"))

    def unit(self, layer, x, masks):
        module = getattr(self, layer)
        x = module(x)
        if self.suffix:
            x = getattr(module, self.suffix)(x)
        x = self.activation(x)
        mask = masks.get(f"{layer}.dropout")
        return x if mask is None else x * mask.view_as(x)

    def pool(self, layer, x, size, masks):
        samples = masks.get(layer)
        if samples is None:
            return F.avg_pool2d(x, 2)
        samples = samples.view(len(x), -1, 2)
        return F.fractional_max_pool2d(x, 2, output_size=(size, size), _random_samples=samples)

    def forward(self, x, masks):
        x = self.pool("s2", self.unit("c1", x, masks), self.pooled[0], masks)
        x = self.pool("s4", self.unit("c3", x, masks), self.pooled[1], masks)
        x = self.unit("c5", x, masks).flatten(1)
        return self.output(self.unit("f6", x, masks))


def batch_norm(channels, is_vector):
    return nn.BatchNorm1d(channels) if is_vector else nn.BatchNorm2d(channels)


class LayerNorm(nn.GroupNorm):
    """All channels and pixels of an image, with a scale and a shift for each channel."""

    def __init__(self, channels, is_vector):
        super().__init__(1, channels)


class Standardised(nn.Module):
    def forward(self, v):
        variance, mean = torch.var_mean(v.flatten(1), dim=1, correction=0)
        rows = (-1, 1, 1, 1)
        return (v - mean.view(rows)) / torch.sqrt(variance.view(rows) + 1e-5)


def parametrize(model, kind):
    for module in model.modules():
        if kind == "weight-norm" and isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.utils.parametrizations.weight_norm(module)
        if kind == "weight-standard" and isinstance(module, nn.Conv2d):
            nn.utils.parametrize.register_parametrization(module, "weight", Standardised())


class Block(nn.Module):
    """Two 3x3 convolutions; `projects` selects option B where the extents change, otherwise option A."""

    def __init__(self, ins, outs, stride, projects):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        self.stride, self.more = stride, outs - ins
        changes = stride != 1 or ins != outs
        if changes and projects:
            self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, blocks, channels, large, classes):
        super().__init__()
        first = channels[0]
        self.large = large
        self.conv1 = nn.Conv2d(3, first, 7, 2, 3, bias=False) if large else nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        ins = first
        for stage, (count, outs) in enumerate(zip(blocks, channels)):
            layers = []
            for block in range(count):
                layers.append(Block(ins, outs, 2 if stage and not block else 1, large))
                ins = outs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.fc = nn.Linear(ins, classes)

    def forward(self, x, masks):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class AlexNet(nn.Module):
    """Two towers as groups, with local response normalisation."""

    def __init__(self, side):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 96, 11, 4), nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3, self.conv4 = nn.Conv2d(256, 384, 3, padding=1), nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        side = (side - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.fc6, self.fc7, self.fc8 = nn.Linear(256 * side * side, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)

    def forward(self, x, masks):
        norm = lambda x: F.local_response_norm(x, 5, 5e-4, 0.75, 2.0)
        x = F.max_pool2d(norm(F.relu(self.conv1(x))), 3, 2)
        x = F.max_pool2d(norm(F.relu(self.conv2(x))), 3, 2)
        x = F.relu(self.conv5(F.relu(self.conv4(F.relu(self.conv3(x))))))
        x = F.max_pool2d(x, 3, 2).flatten(1)
        x = F.relu(self.fc6(x))
        x = x * masks["drop6"] if masks else x
        x = F.relu(self.fc7(x))
        x = x * masks["drop7"] if masks else x
        return self.fc8(x)


class Vgg16(nn.Module):
    STAGES = [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]

    def __init__(self, side):
        super().__init__()
        features, ins = [], 3
        for stage in self.STAGES:
            for outs in stage:
                features += [nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU()]
                ins = outs
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        classifier = [nn.Linear(512 * (side // 32) ** 2, 4096), nn.ReLU(), nn.Identity()]
        classifier += [nn.Linear(4096, 4096), nn.ReLU(), nn.Identity(), nn.Linear(4096, 1000)]
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x, masks):
        return self.classifier(self.features(x).flatten(1))


# The model, the shape of an image, the number of classes, and the layers with random numbers, with their numbers per image.
NETWORKS = {
    "lenet5": (LeNet5, (1, 32, 32), 10, {}),
    "lenet5-bn": (lambda: LeNet5(F.relu, ("bn", batch_norm)), (1, 32, 32), 10, {}),
    "lenet5-ln": (lambda: LeNet5(F.relu, ("ln", LayerNorm)), (1, 32, 32), 10, {}),
    "lenet5-gn": (lambda: LeNet5(F.relu, ("gn", lambda channels, _: nn.GroupNorm(2, channels))), (1, 32, 32), 10, {}),
    "lenet5-dropout": (lambda: LeNet5(F.relu), (1, 32, 32), 10, {"c5.dropout": 120, "f6.dropout": 84}),
    "lenet5-fractional": (lambda: LeNet5(F.relu, None, (16, 7), 7), (1, 32, 32), 10, {"s2": 12, "s4": 32}),
    "resnet20-cifar": (lambda: ResNet([3, 3, 3], [16, 32, 64], False, 10), (3, 32, 32), 10, {}),
    "alexnet": (lambda: AlexNet(67), (3, 67, 67), 1000, {"drop6": 4096, "drop7": 4096}),
    "resnet18": (lambda: ResNet([2, 2, 2, 2], [64, 128, 256, 512], True, 1000), (3, 224, 224), 1000, {}),
    "vgg16": (lambda: Vgg16(224), (3, 224, 224), 1000, {}),
}


def compared():
    """Network, batch, and the options of each training."""
    rates = {"sgd": 0.05, "momentum:0.9": 0.02, "nesterov:0.9": 0.02, "adagrad": 0.005, "rmsprop": 5e-4, "adam": 1e-3}
    for rule, rate in (rates | {"adamw:0.1": 1e-3}).items():
        yield "lenet5", 16, {"optimizer": rule, "rate": rate}
    momentum = {"optimizer": "momentum:0.9", "rate": 0.02}
    for more in ({"l2": 1e-2}, {"l1": 1e-3}, {"l1": 1e-3, "l2": 1e-2}, {"loss": "hinge"}):
        yield "lenet5", 16, momentum | more
    for schedule in ("step:1,0.5", "exponential:0.5", "inverse:0.5", "cosine", "cosine:1,2,0.1"):
        yield "lenet5", 16, momentum | {"schedule": schedule}
    yield "lenet5", 16, momentum | {"warm-up": 2}
    for init in ("he", "he-normal", "xavier", "xavier-normal", "normal-0.01", "normal-1", "zero"):
        # Saturated units amplify rounding: at a rate of 0.01, PyTorch with normal-1 is 0.6 away from itself in float64.
        yield "lenet5", 16, {"optimizer": "sgd", "rate": 1e-5 if init == "normal-1" else 0.01, "init": init}
    for name in ("lenet5-bn", "lenet5-ln", "lenet5-gn", "lenet5-fractional"):
        yield name, 16, {"optimizer": "momentum:0.9", "rate": 0.005}
    yield "lenet5-dropout", 16, {"optimizer": "momentum:0.9", "rate": 0.005, "dropout": 0.5}
    yield "lenet5", 16, momentum | {"parametrization": "weight-norm"}
    yield "lenet5", 16, {"optimizer": "adam", "rate": 1e-3, "parametrization": "weight-norm"}
    yield "lenet5-gn", 16, {"optimizer": "momentum:0.9", "rate": 0.005, "parametrization": "weight-standard"}
    deep = {"sgd": 5e-4, "momentum:0.9": 1e-4, "nesterov:0.9": 1e-4, "adagrad": 1e-5, "rmsprop": 1e-6, "adam": 1e-5}
    for rule, rate in (deep | {"adamw:0.1": 1e-5}).items():
        yield "resnet20-cifar", 32, {"optimizer": rule, "rate": rate}
    momentum = {"optimizer": "momentum:0.9", "rate": 1e-4}
    for more in ({"l2": 1e-2}, {"l1": 1e-4, "l2": 1e-2}, {"schedule": "cosine", "warm-up": 1}):
        yield "resnet20-cifar", 32, momentum | more
    for more in ({"recompute": "cheap"}, {"recompute": "blocks"}, {"parametrization": "weight-norm"}):
        yield "resnet20-cifar", 32, momentum | more
    yield "alexnet", 4, {"optimizer": "sgd", "rate": 0.01, "dropout": 0.5}
    yield "alexnet", 4, {"optimizer": "momentum:0.9", "rate": 0.005, "l2": 5e-4, "dropout": 0.5}


TIMED_WITH = {"optimizer": "momentum:0.9", "rate": 0.01}
TIMED = [("lenet5", 64), ("resnet20-cifar", 128), ("resnet18", 8), ("vgg16", 2)]


def save_safetensors(path, tensors):
    header, data = {}, []
    at = 0
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


INITS = {
    "he": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "he-normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "xavier": nn.init.xavier_uniform_,
    "xavier-normal": nn.init.xavier_normal_,
    "normal-0.01": lambda w: nn.init.normal_(w, std=0.01),
    "normal-1": nn.init.normal_,
    "zero": nn.init.zeros_,
}


def prepare(name, batch, steps, options, folder):
    """Writes weights, batches and random numbers, and returns the model and the same batches and numbers."""
    torch.manual_seed(1)
    make, shape, classes, layers = NETWORKS[name]
    model = make()
    if "init" in options:
        for parameter in model.parameters():
            INITS[options["init"]](parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_safetensors(folder / "weights.safetensors", state)
    parametrize(model, options.get("parametrization"))
    images = torch.randn(steps, batch, *shape)
    labels = torch.randint(0, classes, (steps, batch))
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "labels.npy", labels.numpy().astype(np.float32))
    masks = {}
    dropout = options.get("dropout")
    for layer, elements in layers.items() if dropout or name == "lenet5-fractional" else ():
        mask = torch.rand(steps, batch, elements)
        if dropout:
            mask = (mask >= dropout).float() / (1 - dropout)
        np.save(folder / f"mask.{layer}.npy", mask.numpy())
        masks[layer] = mask
    return model, images, labels, masks


PROGRAM = [str(ROOT / "target" / "release" / "examples" / "train_steps")]


def program():
    path = Path(PROGRAM[0])
    if not path.exists():
        sys.exit(f"error: expected {path}: run `cargo build --release --example train_steps`")
    return str(path)


def ours(name, folder, options, *more):
    # Initial weights are given to both.
    arguments = [part for key, value in options.items() if key != "init" for part in (f"--{key}", str(value))]
    lines = subprocess.run([program(), name, str(folder), *arguments, *more], check=True, capture_output=True, text=True)
    return lines.stdout.split("\n")


def optimiser(model, options):
    """The rule of the options. The penalty and the decay apply to filters and matrices."""
    rule, _, argument = options["optimizer"].partition(":")
    rate, o = options["rate"], torch.optim
    decay = float(argument) if rule == "adamw" else options.get("l2", 0)
    weights = [parameter for parameter in model.parameters() if is_weight(parameter)]
    others = [parameter for parameter in model.parameters() if not is_weight(parameter)]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0}]
    if rule in ("sgd", "momentum", "nesterov"):
        return o.SGD(groups, rate, float(argument or 0), nesterov=rule == "nesterov")
    return {"adagrad": o.Adagrad, "rmsprop": o.RMSprop, "adam": o.Adam, "adamw": o.AdamW}[rule](groups, rate)


def is_weight(parameter):
    # Gains of weight normalisation have one element for each output.
    return parameter.dim() > 1 and parameter.numel() > parameter.shape[0]


EPOCH = 10  # steps per epoch of a schedule, as in the example


def rates(optimizer, options, steps):
    """Calls a schedule of PyTorch before each step, and yields."""
    s = torch.optim.lr_scheduler
    name, _, rest = options.get("schedule", "constant").partition(":")
    numbers = [float(number) for number in rest.split(",") if number]
    per_epoch = {
        "step": lambda: s.StepLR(optimizer, int(numbers[0]), numbers[1]),
        "exponential": lambda: s.ExponentialLR(optimizer, math.exp(-numbers[0])),
        "inverse": lambda: s.LambdaLR(optimizer, lambda t: 1 / (1 + numbers[0] * t)),
    }
    if name in per_epoch:
        scheduler = per_epoch[name]()
    elif name == "cosine" and not numbers:
        scheduler = s.CosineAnnealingLR(optimizer, steps)
    elif name == "cosine":
        floor = numbers[2] * options["rate"]
        scheduler = s.CosineAnnealingWarmRestarts(optimizer, int(numbers[0]) * EPOCH, int(numbers[1]), floor)
    else:
        scheduler = s.LambdaLR(optimizer, lambda t: 1)
    warm_up = options.get("warm-up", 0) * EPOCH
    for step in range(steps):
        if step and (name not in per_epoch or step % EPOCH == 0):
            scheduler.step()
        scheduled = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduled):
            group["lr"] = rate * min(1, (step + 1) / max(warm_up, 1))
        yield
        for group, rate in zip(optimizer.param_groups, scheduled):
            group["lr"] = rate


def loss_of(logits, labels, options):
    if options.get("loss") == "hinge":
        # PyTorch divides by the number of classes.
        return F.multi_margin_loss(logits, labels) * logits.shape[1]
    return F.cross_entropy(logits, labels)


def train(model, images, labels, masks, options, seconds=None):
    optimizer = optimiser(model, options)
    model.train()
    losses = []
    for step, _ in enumerate(rates(optimizer, options, len(images))):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(model(images[step], {layer: mask[step] for layer, mask in masks.items()}), labels[step], options)
        cost = loss
        if "l1" in options:
            cost = loss + options["l1"] * sum(p.abs().sum() for p in model.parameters() if is_weight(p))
        cost.backward()
        optimizer.step()
        if seconds is not None:
            seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return losses


def compare(steps):
    failed = False
    print("| network | batch | training | first loss | last loss | largest relative difference | PyTorch float64 |")
    print("|---|---|---|---|---|---|---|")
    for name, batch, options in compared():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model, *data = prepare(name, batch, steps, options, folder)
            got = [float(line) for line in ours(name, folder, options) if line]
            wide = copy.deepcopy(model).double()
            expected = train(model, *data, options)
        images, labels, masks = data
        masks = {layer: mask.double() for layer, mask in masks.items()}
        exact = train(wide, images.double(), labels, masks, options)
        assert len(got) == len(expected) == steps
        differ = lambda other: max(abs(a - b) / abs(b) for a, b in zip(other, expected))
        worst = differ(got)
        text = ", ".join(f"{key} {value}" if key != "optimizer" else f"`{value}`" for key, value in options.items())
        print(f"| `{name}` | {batch} | {text} | {expected[0]:.4f} | {expected[-1]:.4f} | {worst:.1e} | {differ(exact):.1e} |", flush=True)
        failed |= not worst <= LIMIT
    return failed


def torch_worker(name, batch, steps, layout, threads):
    """Prints the median seconds of a step, and the peak memory."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    make, shape, classes, _ = NETWORKS[name]
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = make().to(memory_format=form)
    images = [torch.randn(batch, *shape).contiguous(memory_format=form) for _ in range(steps)]
    seconds = []
    train(model, images, torch.randint(0, classes, (steps, batch)), {}, TIMED_WITH, seconds)
    print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def measure(rounds, names, threads):
    print("| network | batch | images/s | PyTorch NCHW | channels_last | ratio to the better | memory | PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    for name, batch in TIMED:
        if names and name not in names:
            continue
        steps = 30 if name == "lenet5" else 4
        results = {"ours": [], "nchw": [], "channels_last": []}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            prepare(name, batch, steps, {}, folder)
            for _ in range(rounds):
                *lines, last = [line.split() for line in ours(name, folder, TIMED_WITH, "--time", "--threads", str(threads)) if line]
                seconds = statistics.median(float(line[1]) / 1e3 for line in lines[1:])
                results["ours"].append((seconds, int(last[1])))
                for layout in ("nchw", "channels_last"):
                    worker = [sys.executable, __file__, "--worker", name, str(batch), str(steps), layout, str(threads)]
                    answer = subprocess.run(worker, check=True, capture_output=True, text=True).stdout.split()
                    results[layout].append((float(answer[0]), int(answer[1])))
        speed = {key: batch / statistics.median(row[0] for row in rows) for key, rows in results.items()}
        memory = {key: min(row[1] for row in rows) for key, rows in results.items()}
        better = max(speed["nchw"], speed["channels_last"])
        print(
            f"| {name} | {batch} | {speed['ours']:.1f} | {speed['nchw']:.1f} | {speed['channels_last']:.1f} "
            f"| {speed['ours'] / better:.2f} | {memory['ours'] / 2**20:.0f} MB "
            f"| {min(memory['nchw'], memory['channels_last']) / 2**20:.0f} MB |",
            flush=True,
        )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--time", action="store_true", help="compare times instead of losses")
    p.add_argument("--steps", type=int, default=50, help="steps whose losses are compared")
    p.add_argument("--program", help="the example train_steps, if it is not in target/release/examples")
    p.add_argument("--rounds", type=int, default=3, help="rounds of times")
    p.add_argument("--threads", type=int, default=1, help="threads of a timed step")
    p.add_argument("--network", action="append", help="time only this network")
    p.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.program:
        PROGRAM[:] = [args.program]
    if args.worker:
        name, batch, steps, layout, threads = args.worker
        torch_worker(name, int(batch), int(steps), layout, int(threads))
    elif args.time:
        measure(args.rounds, args.network, args.threads)
    else:
        torch.set_num_threads(1)
        sys.exit(compare(args.steps))


if __name__ == "__main__":
    main()
