#!/usr/bin/env python3
"""Compare our logits and counts with torchvision's networks, from safetensors and from ONNX.

How to run (from the root of the repository):

    python3 -m venv venv && venv/bin/pip install -r nets/train/requirements.txt
    venv/bin/python nets/train/compare_torchvision.py            # all networks, or name some

Each network is initialised at random (seeded; batch normalisation gets random statistics too, so that folding it is
tested), in evaluation mode, without downloading anything. Then, in a temporary folder:

  1. its weights are saved as safetensors under torchvision's names, and a random 1x3x224x224 image as .npy;
  2. `nets run NAME --weights ... --input ... --output ...` computes the logits;
  3. the network is exported to ONNX; `nets count FILE.onnx` and `nets run FILE.onnx` do the same from there.

Checks (exit code 1 if one fails): max|ours - torch| <= 1e-4 * max|torch| for both, PyTorch's parameters and the
multiply-accumulates of its own counter (torch.utils.flop_counter) exactly.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

LIMIT = 1e-4
# Ours, torchvision's, and what the constructor is given.
NETWORKS = [
    ("alexnet-torchvision", "alexnet", {}),
    ("vgg16", "vgg16", {}),
    ("vgg19", "vgg19", {}),
    ("googlenet-torchvision", "googlenet", {"aux_logits": False, "init_weights": False}),
    ("googlenet-torchvision-aux", "googlenet", {"aux_logits": True, "init_weights": False}),
    ("resnet18", "resnet18", {}),
    ("resnet34", "resnet34", {}),
    ("resnet50", "resnet50", {}),
    ("resnet101", "resnet101", {}),
    ("resnet152", "resnet152", {}),
    ("resnext50-32x4d", "resnext50_32x4d", {}),
    ("densenet121", "densenet121", {}),
    ("mobilenet-v2", "mobilenet_v2", {}),
    ("efficientnet-b0", "efficientnet_b0", {}),
]


def build(name, arguments):
    torch.manual_seed(1)
    model = getattr(torchvision.models, name)(weights=None, **arguments).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
        # VGG's biases all start at zero, and the exporter writes tensors that are equal only once.
        if getattr(module, "bias", None) is not None:
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return model


def nets(program, *arguments):
    done = subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"error: {' '.join(map(str, arguments))}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def run(program, what, image, folder, *more):
    output = folder / "y.npy"
    output.unlink(missing_ok=True)
    if nets(program, "run", what, "--input", image, "--output", output, "--format", "json", *more) is None:
        return None
    return np.load(output)


def difference(ours, torch_logits):
    if ours is None or ours.shape != torch_logits.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - torch_logits).max() / np.abs(torch_logits).max())


def export(model, image, path, exporter):
    """Batch normalisation is left as it is: folded away, there would be fewer parameters."""
    if exporter == "dynamo":
        torch.onnx.export(model, (image,), path, dynamo=True, optimize=False, external_data=False, verbose=False)
    else:
        torch.onnx.export(model, (image,), path, dynamo=False, opset_version=17,
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


def compare(program, ours, theirs, arguments, folder, exporter):
    model = build(theirs, arguments)
    torch.manual_seed(2)
    image = torch.randn(1, 3, 224, 224)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        logits = model(image).numpy()
    params = sum(p.numel() for p in model.parameters())
    macs = counter.get_total_flops() // 2

    x, weights, onnx = folder / "x.npy", folder / "w.safetensors", folder / "model.onnx"
    np.save(x, image.numpy())
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    from_weights = difference(run(program, ours, x, folder, "--weights", weights), logits)
    weights.unlink()
    count = nets(program, "count", ours, "--format", "json") or {"params": 0, "macs": 0}

    if arguments.get("aux_logits"):
        # In evaluation mode PyTorch neither runs nor exports the side classifiers; we count them.
        return ours, from_weights, None, count["params"] == params, None, params, count["macs"]
    export(model, image, onnx, exporter)
    del model
    from_onnx = difference(run(program, onnx, x, folder), logits)
    exported = nets(program, "count", onnx, "--format", "json") or {"params": 0, "macs": 0}
    onnx.unlink()
    same = (count["params"], count["macs"]) == (params, macs)
    same_onnx = (exported["params"], exported["macs"]) == (params, macs)
    if not same_onnx:
        print(f"{ours}: ONNX {exported['params']} {exported['macs']}, torch {params} {macs}", file=sys.stderr)
    return ours, from_weights, from_onnx, same, same_onnx, params, macs


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", help="our names [default: all]")
    p.add_argument("--program", help="a built `nets` [default: cargo run --release]")
    p.add_argument("--exporter", choices=["dynamo", "legacy"], default="legacy")
    args = p.parse_args()
    program = [args.program] if args.program else ["cargo", "run", "--quiet", "--release", "--"]
    torch.set_num_threads(2)

    print(f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, ONNX exporter {args.exporter}")
    print(f"{'network':26} {'params':>11} {'MACs':>14}  counts  {'logits':>9}  ONNX:  counts  {'logits':>9}")
    failed = False
    for ours, theirs, arguments in NETWORKS:
        if args.networks and ours not in args.networks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = compare(program, ours, theirs, arguments, Path(folder), args.exporter)
        name, weights, onnx, same, same_onnx, params, macs = row
        text = lambda ok: "-" if ok is None else "same" if ok else "DIFFER"  # noqa: E731
        onnx_text = f"{onnx:9.2e}" if onnx is not None else "        -"
        print(f"{name:26} {params:11,} {macs:14,}  {text(same):6}  {weights:9.2e}         {text(same_onnx):6}  "
              f"{onnx_text}", flush=True)
        failed |= not weights <= LIMIT or not (onnx is None or onnx <= LIMIT) or not same or same_onnx is False
    print("FAIL" if failed else f"PASS: counts are the same, logits differ by at most {LIMIT:g} of the largest")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
