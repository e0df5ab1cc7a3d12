"""The calculator."""

import convkernels as ck
import pytest


def test_resnet50():
    counted = ck.count("resnet50")
    assert (counted.params, counted.macs) == (25_557_032, 4_089_184_256)
    assert counted.flops == 2 * counted.macs
    assert counted.params == sum(layer.params for layer in counted.layers)
    assert counted.macs == sum(layer.macs for layer in counted.layers)
    first = next(layer for layer in counted.layers if layer.op == "conv")
    assert (first.inputs, first.output, first.params) == ([[3, 224, 224]], [64, 112, 112], 64 * 3 * 49)


def test_batch_and_input():
    one, four = ck.count("vgg16"), ck.count("vgg16", batch=4)
    assert four.macs == 4 * one.macs and four.params == one.params
    assert ck.count("resnet50", (3, 448, 448)).macs > 3 * ck.count("resnet50").macs


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="did you mean `resnet50`"):
        ck.count("resnet5O")
    with pytest.raises(FileNotFoundError, match="no.onnx"):
        ck.count(tmp_path / "no.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="damaged.onnx"):
        ck.count(damaged)
    with pytest.raises(ValueError, match="input: expected .channels, rows, columns."):
        ck.count("resnet50", (3, 224))
    with pytest.raises(ValueError, match="batch"):
        ck.count("resnet50", batch=0)
    with pytest.raises(TypeError, match="network"):
        ck.count(b"resnet50")
    with pytest.raises(TypeError):
        ck.count(3)


def test_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", floats, (4, 3, 3, 3), [0.5] * 108)
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", floats, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", floats, (1, 4, 8, 8))],
        [weight],
    )
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    counted = ck.count(path)
    assert (counted.params, counted.macs) == (108, 108 * 64)
