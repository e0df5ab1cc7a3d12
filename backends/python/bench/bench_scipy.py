"""Times `convolve2d` and `filter2D` beside SciPy and OpenCV, in one process, call by call.

    python bench/bench_scipy.py [--threads 1,2] [--seconds 3]

All compute the same: a 512x512 float32 image and a kernel of 31x31 or 3x3, mode 'same', zeros outside. SciPy has one
thread. The outputs are compared with SciPy's direct sum in float64 first.
"""

from __future__ import annotations

import argparse
import statistics
import time

import convkernels as ck
import numpy as np
import scipy
from scipy import signal

try:
    import cv2
except ImportError:
    cv2 = None

LIMIT = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement, of all rivals together")
    options = parser.parse_args()
    print(
        f"scipy {scipy.__version__}, opencv {cv2.__version__ if cv2 else 'not installed'}, convkernels {ck.__version__}"
    )
    random = np.random.default_rng(0)
    image = random.standard_normal((512, 512), dtype=np.float32)
    wrong = False
    for side in (3, 31):
        kernel = random.standard_normal((side, side), dtype=np.float32)
        bell = np.hanning(side + 2)[1:-1].astype(np.float32)
        for kind, k in (("dense", kernel), ("separable", np.outer(bell, bell) / bell.sum() ** 2)):
            for threads in map(int, options.threads.split(",")):
                wrong |= compare(f"{side}x{side} {kind}", image, np.ascontiguousarray(k), threads, options.seconds)
    return int(wrong)


def compare(title, image, kernel, threads, seconds):
    """Prints a line for each rival. Returns whether an output was wrong."""
    if cv2:
        cv2.setNumThreads(threads)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    rivals = {"convkernels": lambda: ck.convolve2d(image, kernel, "same", threads=threads)}
    if cv2:
        rivals["cv2.filter2D"] = lambda: cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_CONSTANT)
    rivals["scipy oaconvolve"] = lambda: signal.oaconvolve(image, kernel, "same")
    rivals["scipy convolve2d"] = lambda: signal.convolve2d(image, kernel, "same")
    expected = signal.convolve2d(image.astype(float), kernel.astype(float), "same")
    times = {name: [] for name in rivals}
    errors = {name: np.linalg.norm(f() - expected) / np.linalg.norm(expected) for name, f in rivals.items()}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["convkernels"]) < 5:
        for name, function in rivals.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    ours = statistics.median(times["convkernels"])
    print(f"\n{title}, {threads} threads{'':8} {'median ms':>10} {'least':>8} {'over ours':>10}  error")
    for name, mine in times.items():
        median, least = statistics.median(mine), min(mine)
        mark = "  OUTPUT DIFFERS" if errors[name] > LIMIT else ""
        print(
            f"  {name:26} {1e3 * median:10.3f} {1e3 * least:8.3f} {median / ours:10.2f}  {errors[name]:.1e}{mark}",
            flush=True,
        )
    return errors["convkernels"] > LIMIT


if __name__ == "__main__":
    raise SystemExit(main())
