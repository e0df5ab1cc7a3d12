#!/usr/bin/env python3
"""Compare our program's LeNet-5 logits with PyTorch's on the 1,000 held-out digits.

How to run (from the root of the repository; see train_lenet5.py for the venv):

    cargo run --release -- demo --logits logits.safetensors
    venv/bin/python nets/train/compare_pytorch.py logits.safetensors

The file has one F32 tensor `logits` [1000, 10], in the order of the digit sheet.
PyTorch runs the same weights in float32 and again in float64, which stands for the truth.
Checks (exit code 1 if one fails, 2 if an input cannot be read):

  - our 1,000 predictions are those of PyTorch float32;
  - for each digit, max|ours - torch| / max|torch| over its ten logits is at most 1e-5.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

sys.dont_write_bytecode = True  # leave no __pycache__ in the repository
sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_lenet5 import OUT as DATA, SHEET_COLUMNS, SHEET_ROWS, LeNet5, to_input  # noqa: E402

LIMIT = 1e-5


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def load(path):
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        fail(f"cannot read {path}: {e}")


def read_sheet(path):
    sheet = np.asarray(Image.open(path))
    if sheet.shape != (SHEET_ROWS * 28, SHEET_COLUMNS * 28) or sheet.dtype != np.uint8:
        fail(f"{path} is not an 8-bit grayscale sheet of {SHEET_COLUMNS}x{SHEET_ROWS} digits")
    return sheet.reshape(SHEET_ROWS, 28, SHEET_COLUMNS, 28).swapaxes(1, 2).reshape(-1, 28, 28)


def relative(a, truth):
    """For each digit, max|a - truth| / max|truth|, computed in float64."""
    a, truth = a.double(), truth.double()
    return (a - truth).abs().amax(1) / truth.abs().amax(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("logits", help="safetensors file with our logits")
    args = p.parse_args()
    torch.set_num_threads(1)

    images = read_sheet(DATA / "digits.png")
    labels = torch.tensor([int(c) for c in "".join((DATA / "digits-labels.txt").read_text().split())])
    tensors = load(args.logits)
    if set(tensors) != {"logits"}:
        fail(f"{args.logits} should hold one tensor `logits`, it holds {sorted(tensors)}")
    ours = tensors["logits"]
    if ours.dtype != torch.float32 or list(ours.shape) != [len(images), 10]:
        fail(f"`logits` should be F32 [{len(images)}, 10], it is {ours.dtype} {list(ours.shape)}")
    if not torch.isfinite(ours).all():
        fail("`logits` has values that are not finite")

    model = LeNet5().eval()
    model.load_state_dict(load(DATA / "lenet5.safetensors"))
    # byte/255 is rounded to float32 once, then widened: both runs start from the same numbers.
    x = to_input(images)
    with torch.inference_mode():
        single = model(x)
        double = model.double()(x.double())

    print(f"PyTorch {torch.__version__}, {len(images)} digits")
    equal = int((ours.argmax(1) == single.argmax(1)).sum())
    print(f"equal predictions: {equal} of {len(images)}")
    for name, logits in (("ours", ours), ("torch f32", single), ("torch f64", double)):
        right = int((logits.argmax(1) == labels).sum())
        print(f"accuracy, {name:9}: {right / len(images) * 100:.2f} %  ({right} right)")
    print("relative difference      largest     median")
    rows = (("ours vs torch f32", ours, single), ("ours vs torch f64", ours, double),
            ("torch f32 vs f64", single, double))
    for name, a, b in rows:
        r = relative(a, b)
        print(f"  {name:19}  {r.max().item():10.3e} {r.median().item():10.3e}")

    largest = relative(ours, single).max().item()
    failed = []
    if equal != len(images):
        failed.append(f"{len(images) - equal} predictions differ from PyTorch's")
    if not largest <= LIMIT:
        failed.append(f"the largest relative difference {largest:.3e} is above {LIMIT:g}")
    for message in failed:
        print(f"FAIL: {message}")
    if not failed:
        print(f"PASS: same predictions, relative difference at most {LIMIT:g}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
