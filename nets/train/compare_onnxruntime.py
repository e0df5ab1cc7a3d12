"""Compares `nets run` with ONNX Runtime on networks in ONNX files, for random inputs.

Usage: python compare_onnxruntime.py PROGRAM FILE.onnx[:NAME=1x3x640x640,...] ...

Needs numpy and onnxruntime. Symbolic extents without a value are 1. Prints the relative L2 difference of each output, and
fails if one exceeds both 1e-5 and the difference between ONNX Runtime with and without its optimisations.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

MOST = 1e-5


def inputs_of(session, given, generator):
    values = {}
    for info in session.get_inputs():
        extents = given.get(info.name) or [dim if isinstance(dim, int) and dim > 0 else 1 for dim in info.shape]
        if "int" in info.type:
            values[info.name] = generator.integers(0, 8, extents).astype(np.int64 if "64" in info.type else np.int32)
        else:
            values[info.name] = generator.standard_normal(extents).astype(np.float32)
    return values


def session_of(path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compare(program, argument):
    path, _, rest = argument.partition(":")
    given = {}
    for part in filter(None, rest.split(",")):
        name, extents = part.split("=")
        given[name] = [int(extent) for extent in extents.split("x")]
    session = session_of(path, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    values = inputs_of(session, given, np.random.default_rng(1))
    names = [info.name for info in session.get_outputs()]
    expected = dict(zip(names, session.run(names, values)))
    optimised = session_of(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    others = dict(zip(names, optimised.run(names, values)))
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "run", path]
        for number, (name, value) in enumerate(values.items()):
            np.save(f"{folder}/x{number}.npy", value)
            command += ["--input", f"{name}={folder}/x{number}.npy"]
        for number, name in enumerate(names):
            command += ["--output", f"{name}={folder}/y{number}.npy"]
        start = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{Path(path).stem:<34} REFUSED {done.stderr.strip().splitlines()[-1][:300]}", flush=True)
            return False
        good = True
        for number, name in enumerate(names):
            got, right = np.load(f"{folder}/y{number}.npy"), expected[name].astype(np.float32)
            if got.shape != right.shape:
                print(f"{Path(path).stem:<34} {name}: WRONG extents {got.shape}, expected {right.shape}", flush=True)
                good = False
                continue
            size = max(np.linalg.norm(right.ravel()), 1e-30)
            difference = np.linalg.norm((got - right).ravel()) / size
            own = np.linalg.norm((others[name].astype(np.float32) - right).ravel()) / size
            fits = difference <= max(MOST, own)
            verdict = "WRONG" if not fits else "ok" if difference <= MOST else f"ok: ONNX Runtime differs from itself by {own:.1e}"
            good &= bool(fits)
            seconds = time.time() - start
            print(f"{Path(path).stem:<34} {name:<20} {difference:.2e} {verdict} ({seconds:.1f} s)", flush=True)
        return good


if __name__ == "__main__":
    results = [compare(sys.argv[1], argument) for argument in sys.argv[2:]]
    sys.exit(0 if all(results) else 1)
