"""convolve2d against SciPy, filter2D against OpenCV and against SciPy's ndimage."""

import convkernels as ck
import numpy as np
import pytest
from reference import random

signal = pytest.importorskip("scipy.signal")
ndimage = pytest.importorskip("scipy.ndimage")

KERNELS = [(1, 1), (3, 3), (5, 2), (4, 4), (2, 7), (31, 31)]


def close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == np.float32
    assert np.linalg.norm(actual - expected) <= 2e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
def test_convolve2d(shape, mode, boundary):
    a, k = random((40, 37)), random(shape, 1)
    for value in (0, 1.5) if boundary == "fill" else (0,):
        expected = signal.convolve2d(a.astype(float), k.astype(float), mode, boundary, value)
        close(ck.convolve2d(a, k, mode, boundary, value), expected)
        close(
            ck.convolve2d(a[::-1, ::-1], k[::-1, ::-1], mode, boundary, value, threads=2)[::-1, ::-1]
            if mode != "same"
            else expected.astype(np.float32),
            expected,
        )


def test_a_separable_kernel():
    a = random((64, 80))
    column, row = random((15, 1), 1), random((1, 9), 2)
    k = column * row
    close(ck.convolve2d(a, k, "same"), signal.convolve2d(a.astype(float), k.astype(float), "same"))


def test_kernels_that_are_kept_are_told_apart():
    """More kernels than are kept, in turn, and one array that changes in place."""
    image, changing = random((20, 20)), random((3, 3), 99)
    for turn in range(24):
        kernel = random((3, 3), 1 + turn % 12)
        changing[1, 1] += 1
        for k in (kernel, changing, kernel.T):
            for mode in ("same", "valid"):
                close(ck.convolve2d(image, k, mode), signal.convolve2d(image.astype(float), k.astype(float), mode))


def test_valid_exchanges_the_arrays():
    a, k = random((5, 4)), random((9, 9), 1)
    close(ck.convolve2d(a, k, "valid"), signal.convolve2d(a.astype(float), k.astype(float), "valid"))
    with pytest.raises(ValueError, match="kernel: expected one that fits"):
        ck.convolve2d(random((5, 20)), k, "valid")


@pytest.mark.parametrize(
    "border, mode",
    [
        ("reflect_101", "mirror"),
        ("reflect", "reflect"),
        ("replicate", "nearest"),
        ("wrap", "wrap"),
        ("constant", "constant"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (4, 6), (21, 21)])
def test_filter2d_against_ndimage(border, mode, shape):
    image, kernel = random((30, 33)), random(shape, 1)
    value = 2.5 if border == "constant" else 0
    expected = ndimage.correlate(image.astype(float), kernel.astype(float), mode=mode, cval=value)
    close(ck.filter2D(image, kernel, border=border, value=value), expected)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("anchor", [None, (0, 2), (4, 0)])
def test_filter2d_against_opencv(channels, dtype, anchor):
    cv2 = pytest.importorskip("cv2")
    shape = (32, 41) if channels is None else (32, 41, channels)
    image = (np.abs(random(shape)) * 90).clip(0, 255).astype(dtype)
    kernel = random((3, 5), 1)
    for border in (cv2.BORDER_REFLECT_101, cv2.BORDER_REFLECT, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT):
        expected = cv2.filter2D(image, -1, kernel, anchor=anchor or (-1, -1), borderType=border).reshape(shape)
        result = ck.filter2D(image, kernel, anchor, border)
        assert result.shape == expected.shape and result.dtype == dtype
        if dtype == np.float32:
            close(result, expected.astype(float))
        else:
            # A sum that lies on a half can be rounded either way.
            assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
            assert (result != expected).mean() < 0.01


@pytest.mark.parametrize("function, arguments", [(ck.convolve2d, ()), (ck.filter2D, ())])
def test_errors(function, arguments):
    image, kernel = random((8, 8)), random((3, 3), 1)
    with pytest.raises(TypeError, match="expected dtype float32, got float64"):
        function(image.astype(float), kernel)
    with pytest.raises(TypeError, match="expected dtype float32, got float64"):
        function(image, kernel.astype(float))
    with pytest.raises(TypeError, match="got int64"):
        function(image.astype(int), kernel)
    with pytest.raises(ValueError, match="expected"):
        function(image[:0], kernel)
    with pytest.raises(ValueError, match="expected"):
        function(image, kernel[:0])
    with pytest.raises(ValueError, match="2 dimensions"):
        function(image, kernel[0])


def test_anchor_and_border():
    image, kernel = random((8, 8)), random((3, 3), 1)
    with pytest.raises(ValueError, match="anchor"):
        ck.filter2D(image, kernel, (3, 0))
    with pytest.raises(ValueError, match="border"):
        ck.filter2D(image, kernel, border="mirror")
    with pytest.raises(ValueError, match="border"):
        ck.filter2D(image, kernel, border=5)
    with pytest.raises(ValueError, match="boundary"):
        ck.convolve2d(image, kernel, boundary="mirror")
    with pytest.raises(ValueError, match="mode"):
        ck.convolve2d(image, kernel, "circular")


def test_minus_one_is_the_centre_of_its_axis():
    cv2 = pytest.importorskip("cv2")
    image, kernel = random((12, 15)), random((4, 5), 1)
    for anchor in ((-1, -1), (-1, 0), (4, -1)):
        close(ck.filter2D(image, kernel, anchor), cv2.filter2D(image, -1, kernel, anchor=anchor).astype(float))
    with pytest.raises(ValueError, match="anchor: expected an int from -1"):
        ck.filter2D(image, kernel, (-2, 0))


def test_bytes_of_tensors():
    torch = pytest.importorskip("torch")
    image, kernel = (np.abs(random((9, 8, 3))) * 90).clip(0, 255).astype(np.uint8), random((3, 3), 1)
    result = ck.filter2D(torch.from_numpy(image), torch.from_numpy(kernel))
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), ck.filter2D(image, kernel))
    with pytest.raises(TypeError, match="expected dtype float32, got torch.uint8"):
        ck.convolve2d(torch.from_numpy(image[:, :, 0]), torch.from_numpy(kernel))
    with pytest.raises(TypeError, match="expected dtype float32, got torch.int32"):
        ck.filter2D(torch.from_numpy(image.astype(np.int32)), torch.from_numpy(kernel))


@pytest.mark.parametrize("function", [ck.convolve2d, ck.filter2D])
def test_one_or_two_passes(function):
    # Large enough for two passes, too small for a Fourier transform: it would spread the infinite pixel over its tile.
    image, kernel = random((40, 200)), np.outer(random(7, 1), random(7, 2))
    two, one = function(image, kernel), function(image, kernel, separable=False)
    close(two, one.astype(float))
    assert (two != one).any(), "they round in different places"
    # An infinite pixel reaches only the outputs that read it, if the kernel is applied as it is.
    image[20, 100] = np.inf
    assert (~np.isfinite(function(image, kernel, separable=False))).sum() == kernel.size
    with pytest.raises(TypeError, match="separable: expected a bool, got 1"):
        function(image, kernel, separable=1)
