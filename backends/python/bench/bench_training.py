"""Times training steps of a basic block of ResNet with and without `convkernels.torch.trainable`, step by step.

    python bench/bench_training.py [--threads 1,2] [--seconds 6] [--batch 8] [--channels 64] [--size 56]

Forward, backward and an SGD step of two 3x3 convolutions with batch norms and a shortcut (He et al. 2016, figure 2). The
rounds interleave: plain, ours, plain, ... The gradients of the first step are compared.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import convkernels.torch
import torch
from torch import nn
from torch.nn import functional

LIMIT = 1e-4


class Block(nn.Module):
    """A basic block of ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return functional.relu(self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x))))) + x)


class Convolutions(nn.Module):
    """The two convolutions alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv2(self.conv1(x))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=56)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, convkernels {convkernels.__version__}, {options}")
    print(
        f"{'model':13} {'order':13} {'threads':>7} {'plain ms':>9} {'(least)':>9} {'ours ms':>9} {'(least)':>9} ratio error"
    )
    wrong = False
    for kind in (Block, Convolutions):
        for order in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(0)
            plain = kind(options.channels).to(memory_format=order)
            ours = convkernels.torch.trainable(copy.deepcopy(plain))
            x = torch.randn(options.batch, options.channels, options.size, options.size).to(memory_format=order)
            for threads in map(int, options.threads.split(",")):
                torch.set_num_threads(threads)
                error, times = measure(plain, ours, x, options.seconds)
                wrong |= error > LIMIT
                (a, b), (c, d) = ((1e3 * statistics.median(t), 1e3 * min(t)) for t in times)
                name = str(order).split(".")[1].removesuffix("_format")
                verdict = "" if error <= LIMIT else "  GRADIENTS DIFFER"
                print(
                    f"{kind.__name__:13} {name:13} {threads:7} {a:9.2f} {b:9.2f} {c:9.2f} {d:9.2f} {a / c:5.2f} "
                    f"{error:.1e}{verdict}",
                    flush=True,
                )
    return int(wrong)


def measure(plain, ours, x, seconds):
    """The largest relative L2 distance of the gradients, and the times of the steps of both."""
    both = (plain, ours)
    inputs = [x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in both]
    start = copy.deepcopy(plain.state_dict())
    for model, own in zip(both, inputs):
        model.load_state_dict(start)
        backward(model, own)
    pairs = [*zip(plain.parameters(), ours.parameters()), tuple(inputs)]
    error = max(float((a.grad - b.grad).norm() / a.grad.norm()) for a, b in pairs)
    optimizers = [torch.optim.SGD(model.parameters(), 1e-6) for model in both]
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for model, own, optimizer, mine in zip(both, inputs, optimizers, times):
            begin = time.perf_counter()
            backward(model, own)
            optimizer.step()
            mine.append(time.perf_counter() - begin)
    return error, times


def backward(model, x):
    model.zero_grad()
    x.grad = None
    model(x).square().mean().backward()


if __name__ == "__main__":
    raise SystemExit(main())
