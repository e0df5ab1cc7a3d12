"""Times torchvision's networks with and without `convkernels.torch.optimize`, in one process, pass by pass.

    python bench/bench_torch.py [--threads 1,2] [--seconds 6] [resnet50 vgg16 ...]

Weights are seeded. The rounds interleave: eager, optimized, eager, ... The outputs are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time

import convkernels.torch
import torch
import torchvision

LIMIT = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["resnet50", "vgg16"])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, convkernels {convkernels.__version__}")
    print(
        f"{'network':14} {'threads':>7} {'eager ms':>10} {'(least)':>9} {'ours ms':>10} {'(least)':>9} {'ratio':>6}  error"
    )
    wrong = False
    for name in options.networks:
        eager = network(name)
        optimized = convkernels.torch.optimize(eager)
        x = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        for threads in map(int, options.threads.split(",")):
            torch.set_num_threads(threads)
            error, times = measure(eager, optimized, x, options.seconds)
            (a, b), (c, d) = ((1e3 * statistics.median(t), 1e3 * min(t)) for t in times)
            verdict = "" if error <= LIMIT else "  OUTPUTS DIFFER"
            wrong |= error > LIMIT
            print(
                f"{name:14} {threads:7} {a:10.2f} {b:9.2f} {c:10.2f} {d:9.2f} {a / c:6.2f}  {error:.1e}{verdict}",
                flush=True,
            )
    return int(wrong)


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None).eval()


@torch.inference_mode()
def measure(eager, optimized, x, seconds):
    """The relative L2 distance of the outputs, and the times of both."""
    expected, got = eager(x), optimized(x)
    error = float((got - expected).norm() / expected.norm())
    times: tuple[list[float], list[float]] = ([], [])
    for model in (eager, optimized):
        model(x)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for model, mine in zip((eager, optimized), times):
            start = time.perf_counter()
            model(x)
            mine.append(time.perf_counter() - start)
    return error, times


if __name__ == "__main__":
    raise SystemExit(main())
