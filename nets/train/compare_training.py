#!/usr/bin/env python3
"""Train the same networks in PyTorch and in this library, from the same weights and batches, and compare.

How to run (from the root of the repository; see train_lenet5.py for the venv):

    cargo build --release --example train_steps
    venv/bin/python nets/train/compare_training.py                      # losses of 50 steps
    venv/bin/python nets/train/compare_training.py --time               # images per second, one thread, alternating

Losses: exit code 1 if a loss differs by more than 1e-4 relative. Masks of dropout are drawn here and given to both.
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
    def __init__(self):
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x, masks):
        x = F.avg_pool2d(torch.tanh(self.c1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.c3(x)), 2)
        x = torch.tanh(self.c5(x)).flatten(1)
        return self.output(torch.tanh(self.f6(x)))


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


# The model, the shape of an image, the number of classes, and the dropout layers with their elements per image.
NETWORKS = {
    "lenet5": (LeNet5, (1, 32, 32), 10, {}),
    "resnet20-cifar": (lambda: ResNet([3, 3, 3], [16, 32, 64], False, 10), (3, 32, 32), 10, {}),
    "alexnet": (lambda: AlexNet(67), (3, 67, 67), 1000, {"drop6": 4096, "drop7": 4096}),
    "resnet18": (lambda: ResNet([2, 2, 2, 2], [64, 128, 256, 512], True, 1000), (3, 224, 224), 1000, {}),
    "vgg16": (lambda: Vgg16(224), (3, 224, 224), 1000, {}),
}
# Network, batch, and the options of the optimiser.
COMPARED = [
    ("lenet5", 16, {"rate": 0.05}),
    ("lenet5", 16, {"rate": 0.02, "momentum": 0.9}),
    ("resnet20-cifar", 32, {"rate": 5e-4}),
    ("resnet20-cifar", 32, {"rate": 1e-4, "momentum": 0.9, "decay": 1e-2}),
    ("alexnet", 4, {"rate": 0.01, "dropout": 0.5}),
    ("alexnet", 4, {"rate": 0.005, "momentum": 0.9, "decay": 5e-4, "dropout": 0.5}),
]
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


def prepare(name, batch, steps, dropout, folder):
    """Writes weights, batches and masks, and returns the model and the same batches and masks."""
    torch.manual_seed(1)
    make, shape, classes, layers = NETWORKS[name]
    model = make()
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_safetensors(folder / "weights.safetensors", state)
    images = torch.randn(steps, batch, *shape)
    labels = torch.randint(0, classes, (steps, batch))
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "labels.npy", labels.numpy().astype(np.float32))
    masks = {}
    for layer, elements in layers.items() if dropout else ():
        mask = (torch.rand(steps, batch, elements) >= dropout).float() / (1 - dropout)
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
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    lines = subprocess.run([program(), name, str(folder), *arguments, *more], check=True, capture_output=True, text=True)
    return lines.stdout.split("\n")


def train(model, images, labels, masks, options, seconds=None):
    optimiser = torch.optim.SGD(
        model.parameters(), options["rate"], options.get("momentum", 0), weight_decay=options.get("decay", 0)
    )
    model.train()
    losses = []
    for step in range(len(images)):
        start = time.perf_counter()
        optimiser.zero_grad()
        loss = F.cross_entropy(model(images[step], {layer: mask[step] for layer, mask in masks.items()}), labels[step])
        loss.backward()
        optimiser.step()
        if seconds is not None:
            seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return losses


def compare(steps):
    failed = False
    print("| network | batch | optimiser | first loss | last loss | largest relative difference | PyTorch float64 |")
    print("|---|---|---|---|---|---|---|")
    for name, batch, options in COMPARED:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model, *data = prepare(name, batch, steps, options.get("dropout", 0), folder)
            got = [float(line) for line in ours(name, folder, options) if line]
            wide = copy.deepcopy(model).double()
            expected = train(model, *data, options)
        images, labels, masks = data
        masks = {layer: mask.double() for layer, mask in masks.items()}
        exact = train(wide, images.double(), labels, masks, options)
        assert len(got) == len(expected) == steps
        differ = lambda other: max(abs(a - b) / abs(b) for a, b in zip(other, expected))
        worst = differ(got)
        text = ", ".join(f"{key} {value}" for key, value in options.items())
        print(f"| {name} | {batch} | {text} | {expected[0]:.4f} | {expected[-1]:.4f} | {worst:.1e} | {differ(exact):.1e} |", flush=True)
        failed |= not worst <= LIMIT
    return failed


def torch_worker(name, batch, steps, layout):
    """Prints the median seconds of a step, and the peak memory."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    make, shape, classes, _ = NETWORKS[name]
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = make().to(memory_format=form)
    images = [torch.randn(batch, *shape).contiguous(memory_format=form) for _ in range(steps)]
    seconds = []
    train(model, images, torch.randint(0, classes, (steps, batch)), {}, {"rate": 0.01, "momentum": 0.9}, seconds)
    print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def measure(rounds, names):
    print("| network | batch | images/s | PyTorch NCHW | channels_last | ratio to the better | memory | PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    for name, batch in TIMED:
        if names and name not in names:
            continue
        steps = 30 if name == "lenet5" else 4
        results = {"ours": [], "nchw": [], "channels_last": []}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            prepare(name, batch, steps, 0, folder)
            for _ in range(rounds):
                *lines, last = [line.split() for line in ours(name, folder, {"rate": 0.01, "momentum": 0.9}, "--time") if line]
                seconds = statistics.median(float(line[1]) / 1e3 for line in lines[1:])
                results["ours"].append((seconds, int(last[1])))
                for layout in ("nchw", "channels_last"):
                    worker = [sys.executable, __file__, "--worker", name, str(batch), str(steps), layout]
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
    p.add_argument("--network", action="append", help="time only this network")
    p.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.program:
        PROGRAM[:] = [args.program]
    if args.worker:
        name, batch, steps, layout = args.worker
        torch_worker(name, int(batch), int(steps), layout)
    elif args.time:
        measure(args.rounds, args.network)
    else:
        torch.set_num_threads(1)
        sys.exit(compare(args.steps))


if __name__ == "__main__":
    main()
