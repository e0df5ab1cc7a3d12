"""Runs OpenCV's and SciPy's filters for the bench `filters`, as far as they are installed.

The first line of the output names the functions, and the versions as NAME=VERSION. Then each command is a
line on the input:

    image HEIGHT WIDTH, kernel HEIGHT WIDTH    followed by the numbers as little-endian f32; no answer
    run FUNCTION THREADS SECONDS               answer: a line with the median of the times of runs that take so
                                               many seconds together, then the output as f32
"""

import sys
import time

import numpy as np


def functions():
    """Returns the functions (image, kernel, output) -> output, and the versions of the packages."""
    found, versions = {}, []
    try:
        import cv2

        border = cv2.BORDER_REPLICATE
        versions.append(f"opencv={cv2.__version__}")
        found["filter2D"] = lambda image, kernel, output: cv2.filter2D(
            image, -1, kernel["all"], dst=output, borderType=border
        )
        found["sepFilter2D"] = lambda image, kernel, output: cv2.sepFilter2D(
            image, -1, kernel["row"], kernel["column"], dst=output, borderType=border
        )
    except ImportError:
        pass
    try:
        import scipy
        import scipy.signal

        versions.append(f"scipy={scipy.__version__}")
        found["oaconvolve"] = lambda image, kernel, output: scipy.signal.oaconvolve(
            image, kernel["flipped"], mode="same"
        )
    except ImportError:
        pass
    return found, versions


def set_threads(count):
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(count)


def read_array(stdin, height, width):
    data = stdin.read(4 * height * width)
    return np.frombuffer(data, "<f4").reshape(height, width).astype(np.float32)


def timed(work, budget):
    """Returns the last result, and the median of the times without the first run if there are more."""
    began, seconds = time.perf_counter(), []
    while True:
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() - began > budget:
            warm = sorted(seconds[1:] or seconds)
            return result, warm[len(warm) // 2]


def main():
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    found, versions = functions()
    stdout.write((" ".join([*found, *versions]) + "\n").encode())
    stdout.flush()
    image = kernel = output = None
    for line in iter(stdin.readline, b""):
        command, *words = line.decode().split()
        if command == "image":
            image = read_array(stdin, *map(int, words))
            output = np.zeros_like(image)
        elif command == "kernel":
            whole = read_array(stdin, *map(int, words))
            # For a kernel of rank 1: its sums over rows and over columns, scaled.
            column = (whole.sum(axis=1, dtype=np.float64) / whole.sum(dtype=np.float64)).astype(np.float32)
            row = whole.sum(axis=0, dtype=np.float64).astype(np.float32)
            kernel = {"all": whole, "row": row, "column": column, "flipped": whole[::-1, ::-1].copy()}
        else:
            name, threads, budget = words
            set_threads(int(threads))
            result, seconds = timed(lambda: found[name](image, kernel, output), float(budget))
            stdout.write(f"{seconds!r}\n".encode())
            stdout.write(np.ascontiguousarray(result, "<f4").tobytes())
            stdout.flush()


if __name__ == "__main__":
    main()
