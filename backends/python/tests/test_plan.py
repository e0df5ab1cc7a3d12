"""ConvPlan, conv2d and conv1d on NumPy arrays."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import convkernels as ck
import numpy as np
import pytest
from reference import assert_close, conv2d, random

CASES = [
    # channels, outputs, kernel, stride, padding, dilation, groups
    (3, 16, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (8, 12, (3, 3), (2, 1), (0, 1), (1, 1), 1),
    (16, 16, (3, 3), (1, 1), (1, 1), (1, 1), 16),
    (8, 16, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (6, 4, (5, 3), (1, 2), (2, 3), (2, 1), 2),
    (4, 8, (2, 4), (3, 3), (0, 0), (1, 2), 4),
    (32, 48, (3, 3), (1, 1), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1, 13, 17), (3, 9, 10)])
def test_agrees_with_the_definition(case, bias, size):
    channels, outputs, kernel, stride, padding, dilation, groups = case
    (n, h, w), (rows, columns) = size, padding
    x, weight = random((n, channels, h, w)), random((outputs, channels // groups, *kernel), 1)
    b = random(outputs, 2) if bias else None
    expected = conv2d(x, weight, b, stride, (rows, rows, columns, columns), dilation, groups)
    assert_close(ck.conv2d(x, weight, b, stride, padding, dilation, groups), expected)
    plan = ck.ConvPlan(weight, b, stride, padding, dilation, groups)
    assert plan.output_shape(x.shape) == expected.shape
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for same in (x, last, x[:, :, ::-1][:, :, ::-1], np.asfortranarray(x)):
        for threads in (1, 2):
            plan = ck.ConvPlan(weight, b, stride, padding, dilation, groups, threads=threads)
            assert_close(plan(same), expected)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_padding_keeps_the_size(kernel, dilation):
    x, weight = random((2, 3, 20, 21)), random((4, 3, kernel, kernel), 1)
    total = dilation * (kernel - 1)
    before, after = total // 2, total - total // 2
    expected = conv2d(x, weight, None, (1, 1), (before, after, before, after), (dilation, dilation))
    assert expected.shape == (2, 4, 20, 21)
    assert_close(ck.conv2d(x, weight, padding="same", dilation=dilation), expected)


def test_valid_padding_is_none():
    x, weight = random((1, 3, 8, 8)), random((4, 3, 3, 3), 1)
    np.testing.assert_array_equal(ck.conv2d(x, weight, padding="valid"), ck.conv2d(x, weight))


def test_without_a_batch():
    x, weight = random((3, 8, 9)), random((4, 3, 3, 3), 1)
    assert_close(ck.conv2d(x, weight), conv2d(x[None], weight)[0])
    plan = ck.ConvPlan(weight)
    out = np.full((4, 6, 7), np.nan, np.float32)
    assert plan(x, out=out) is out
    assert_close(out, conv2d(x[None], weight)[0])


@pytest.mark.parametrize(
    "stride, padding, dilation, groups", [(1, 0, 1, 1), (2, 3, 2, 1), (1, "same", 2, 2), ((3,), (1,), (1,), 4)]
)
def test_one_dimension(stride, padding, dilation, groups):
    x, weight, bias = random((2, 4, 30)), random((8, 4 // groups, 4), 1), random(8, 2)
    one = lambda value: value[0] if isinstance(value, tuple) else value
    total = one(dilation) * 3
    left, right = (total // 2, total - total // 2) if padding == "same" else (one(padding), one(padding))
    expected = conv2d(
        x[:, :, None], weight[:, :, None], bias, (1, one(stride)), (0, 0, left, right), (1, one(dilation)), groups
    )
    assert_close(ck.conv1d(x, weight, bias, stride, padding, dilation, groups), expected[:, :, 0])
    plan = ck.ConvPlan(weight, bias, stride, padding, dilation, groups)
    assert_close(plan(x[0]), expected[0, :, 0])
    assert plan.output_shape(x.shape) == expected[:, :, 0].shape
    assert plan.explain(x.shape).startswith("2x4x1x30")


ACTIVATIONS = {
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.clip(y, 0, 6),
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "tanh": np.tanh,
    "silu": lambda y: y / (1 + np.exp(-y)),
    "hardswish": lambda y: y * np.clip(y + 3, 0, 6) / 6,
    ("leaky_relu", 0.25): lambda y: np.where(y < 0, y / 4, y),
    ("elu", 2): lambda y: np.where(y < 0, 2 * np.expm1(y), y),
    ("clip", -1, 2.5): lambda y: np.clip(y, -1, 2.5),
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation):
    x, weight, bias = random((1, 8, 9, 9)), random((6, 8, 3, 3), 1), random(6, 2)
    residual = random((1, 6, 7, 7), 3)
    plan = ck.ConvPlan(weight, bias, activation=activation)
    for given, sums in ((None, conv2d(x, weight, bias)), (residual, conv2d(x, weight, bias) + residual)):
        expected = ACTIVATIONS[activation](sums)
        # No activation here is steeper than 2, so the error of a sum at most doubles.
        assert np.abs(plan(x, residual=given) - expected).max() <= 2 * 5e-6 * np.abs(sums).max()


def test_prelu_and_its_pickle():
    x, weight, slopes = random((1, 8, 9, 9)), random((6, 8, 3, 3), 1), random(6, 2)
    y = conv2d(x, weight)
    expected = np.where(y < 0, y * slopes[:, None, None], y)
    plan = ck.ConvPlan(weight, activation=("prelu", slopes))
    assert_close(plan(x), expected)
    assert_close(pickle.loads(pickle.dumps(plan))(x), expected)
    with pytest.raises(ValueError, match="PReLU slopes"):
        ck.ConvPlan(weight, activation="prelu")


@pytest.mark.parametrize("numerics", ["strict", "default", "fast", "tf32", "bf16"])
def test_numerics(numerics):
    x, weight = random((1, 64, 28, 28)), random((64, 64, 3, 3), 1)
    assert_close(
        ck.ConvPlan(weight, padding=1, numerics=numerics)(x), conv2d(x, weight, None, (1, 1), (1,) * 4), numerics
    )


def test_channels_last_stays_channels_last():
    plan = ck.ConvPlan(random((16, 8, 3, 3)), padding=1)
    x = random((2, 10, 11, 8)).transpose(0, 3, 1, 2)
    y = plan(x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_close(y, plan(np.ascontiguousarray(x)))


def test_a_slice_of_channels_is_read_in_place():
    plan, wide = ck.ConvPlan(random((4, 3, 3, 3))), random((2, 8, 9, 9), 1)
    assert_close(plan(wide[:, 2:5]), plan(wide[:, 2:5].copy()))
    out = np.full((2, 8, 7, 7), np.nan, np.float32)
    plan(wide[:, 2:5], out=out[:, 4:])
    assert_close(out[:, 4:], plan(wide[:, 2:5].copy()))
    assert np.isnan(out[:, :4]).all()


def test_unaligned_and_broadcast_inputs():
    plan, x = ck.ConvPlan(random((4, 3, 3, 3))), random((2, 3, 9, 9), 1)
    memory = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    assert not unaligned.flags.aligned
    assert_close(plan(unaligned), plan(x))
    same = np.broadcast_to(x[:1], x.shape)
    assert_close(plan(same), plan(same.copy()))


def test_out():
    plan, x = ck.ConvPlan(random((4, 3, 3, 3))), random((2, 3, 9, 9), 1)
    expected = plan(x)
    out = np.full(expected.shape, np.nan, np.float32)
    assert plan(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match=r"out: expected shape \[2, 4, 7, 7\], got \[2, 4, 7, 8\]"):
        plan(x, out=np.zeros((2, 4, 7, 8), np.float32))
    with pytest.raises(TypeError, match="out: expected dtype float32, got float64"):
        plan(x, out=np.zeros(expected.shape))
    with pytest.raises(ValueError, match="strides of a packed array in nchw"):
        plan(x, out=np.zeros((2, 7, 7, 4), np.float32).transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match="strides"):
        plan(x, out=np.zeros((2, 4, 7, 14), np.float32)[..., ::2])
    locked = np.zeros(expected.shape, np.float32)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        plan(x, out=locked)


def test_out_must_not_overlap():
    plan = ck.ConvPlan(random((3, 3, 1, 1)))
    memory = random(4 * 3 * 81, 1)
    x = memory[: 2 * 3 * 81].reshape(2, 3, 9, 9)
    with pytest.raises(ValueError, match="out: expected memory that x does not use, got an overlap"):
        plan(x, out=x)
    for shift, overlaps in [(1, True), (2 * 3 * 81 - 1, True), (2 * 3 * 81, False)]:
        out = memory[shift : shift + x.size].reshape(x.shape)
        if overlaps:
            with pytest.raises(ValueError, match="overlap"):
                plan(x, out=out)
        else:
            expected = plan(x)
            np.testing.assert_array_equal(plan(x, out=out), expected)
    y = random(x.shape, 5)
    with pytest.raises(ValueError, match="residual"):
        plan(x.copy(), out=y, residual=y)


def test_the_plan_has_a_copy_of_the_weights():
    weight, x = random((4, 3, 3, 3)), random((1, 3, 9, 9), 1)
    plan, expected = ck.ConvPlan(weight), conv2d(x, weight)
    weight[...] = np.nan
    assert_close(plan(x), expected)


@pytest.mark.parametrize("make", [lambda p: pickle.loads(pickle.dumps(p)), copy.copy, copy.deepcopy])
def test_copies(make):
    weight, x = random((4, 3, 3, 3)), random((1, 3, 9, 9), 1)
    plan = ck.ConvPlan(weight, random(4, 2), 2, "valid", activation="relu", numerics="bf16", threads=1)
    other = make(plan)
    assert (
        repr(other)
        == repr(plan)
        == "ConvPlan(4x3x3x3, bias, stride=2, padding='valid', activation='relu', numerics='bf16', threads=1)"
    )
    np.testing.assert_array_equal(other(x), plan(x))


def test_explain_names_the_choice():
    text = ck.ConvPlan(random((64, 64, 3, 3)), padding=1).explain((1, 64, 56, 56))
    assert text.startswith("1x64x56x56 -> 64 3x3 pad 1x1 nchw\n  chosen ")
    assert ck.explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1) == text


def test_explain_names_products():
    strict, loose = (ck.explain((1, 64, 56, 56), (64, 64, 3, 3), numerics=level) for level in ("strict", "bf16"))
    chosen = strict.splitlines()[1].split()[1]
    assert "+" not in chosen
    # Only instruction sets with bf16 products have lines for them.
    if "+bf16" in loose:
        line = next(line for line in strict.splitlines() if line.split()[0].endswith("+bf16"))
        assert "its rounding error requires numerics bf16" in line


def test_eight_threads_run_one_plan():
    plan = ck.ConvPlan(random((16, 8, 3, 3)), padding=1, threads=2)
    inputs = [random((1 + i % 3, 8, 15 + i, 16), i) for i in range(8)]
    expected = [ck.ConvPlan(random((16, 8, 3, 3)), padding=1, threads=1)(x) for x in inputs]
    wrong, start = [], threading.Barrier(8)

    def work(first):
        start.wait()
        for turn in range(60):
            number = (first + turn) % 8
            if np.abs(plan(inputs[number]) - expected[number]).max() > 1e-4:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_the_interpreter_runs_meanwhile():
    """A thread that counts makes progress while a long call computes."""
    plan, x = ck.ConvPlan(random((64, 64, 5, 5)), padding=2, numerics="strict", threads=1), random((8, 64, 96, 96), 1)
    counted, stop, began = [0], threading.Event(), threading.Event()

    def count():
        began.set()
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    began.wait()
    plan(x)
    before = counted[0]
    plan(x)
    during = counted[0] - before
    stop.set()
    thread.join()
    assert during > 1000


def test_a_forked_child_has_threads_of_its_own():
    code = """
import os, convkernels as ck, numpy as np
plan = ck.ConvPlan(np.ones((32, 32, 3, 3), np.float32), threads=2)
x = np.ones((1, 32, 64, 64), np.float32)
y = plan(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(plan(x), y) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("this system does not fork")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_importing_does_not_import_torch():
    code = "import convkernels, sys; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_explain_starts_no_threads():
    code = (
        "import convkernels as ck, numpy as np, os\n"
        "plan, tasks = ck.ConvPlan(np.ones((64, 64, 3, 3), np.float32)), lambda: len(os.listdir('/proc/self/task'))\n"
        "before = tasks()\n"
        "plan.explain((1, 64, 56, 56), threads=64)\n"
        "assert tasks() == before, tasks()\n"
        "plan = ck.ConvPlan(np.ones((64, 64, 3, 3), np.float32), threads=3)\n"
        "plan(np.ones((1, 64, 56, 56), np.float32))\n"
        "assert tasks() == before + 3\n"
    )
    if not os.path.exists("/proc/self/task"):
        pytest.skip("the number of threads is counted in /proc")
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match="threads: expected a number from 1 to 256, got 257"):
        ck.ConvPlan(np.ones((4, 4, 3, 3), np.float32)).explain((1, 4, 9, 9), threads=257)
