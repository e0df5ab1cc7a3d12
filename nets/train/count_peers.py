"""Compares `nets count` with onnx-tool on ONNX files, and with fvcore on the torchvision models of the same names.

    python count_peers.py NETS FILE.onnx ...

NETS is the program. A file `densenet121.onnx` is compared with `torchvision.models.densenet121`, if there is one. It needs
`onnx-tool`; `fvcore`, `torch` and `torchvision` are optional. The output is a Markdown table.
"""

import contextlib
import io
import json
import logging
import math
import pathlib
import subprocess
import sys

import onnx_tool

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FVCORE_PRODUCTS = ("conv", "linear", "matmul", "addmm", "bmm")


def ours(program, path):
    report = subprocess.run([program, "count", path, "--format", "json"], check=True, capture_output=True)
    return json.loads(report.stdout)


def biases(report):
    """Additions of biases, which onnx-tool counts: one for each output of a layer that multiplies."""
    layers = (layer for layer in report["layers"] if layer["biases"] and layer["macs"])
    return sum(math.prod(layer["output"]) for layer in layers) * report["batch"]


def onnx_tool_products(path):
    with contextlib.redirect_stdout(io.StringIO()):
        graph = onnx_tool.Model(str(path), {"verbose": False}).graph
        graph.shape_infer(None)
        graph.profile()
    nodes = graph.nodemap.values()
    return sum(int(node.macs[0]) for node in nodes if node.op_type in PRODUCTS), int(graph.params)


def fvcore_products(name, dims):
    try:
        import torch
        import torchvision
        from fvcore.nn import FlopCountAnalysis

        logging.disable(logging.CRITICAL)
        model = torchvision.models.get_model(name, weights=None).eval()
        count = FlopCountAnalysis(model, torch.zeros(1, *dims)).by_operator()
    except (ImportError, ValueError):
        return "", ""
    products = sum(int(count.get(kind, 0)) for kind in FVCORE_PRODUCTS)
    return products, sum(parameter.numel() for parameter in model.parameters())


def main(program, files):
    print("| file | MACs | fvcore | onnx-tool less biases | parameters | fvcore | onnx-tool |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for file in map(pathlib.Path, files):
        report = ours(program, file)
        theirs, theirs_params = onnx_tool_products(file)
        model, model_params = fvcore_products(file.stem, report["input"])
        cells = [report["macs"], model, theirs - biases(report), report["params"], model_params, theirs_params]
        print("|", file.stem, "|", " | ".join(f"{cell:,}" if cell != "" else "" for cell in cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
