"""Memory that the system refuses is an exception. Each call runs in a process whose address space is limited."""

import subprocess
import sys

import pytest

CALLS = {
    "image": "ck.conv2d(of((1, 4, 2**20, 2**20)), w)",
    "images": "ck.conv2d(of((2**15, 4, 2**10, 2**10)), w)",
    "weights": "ck.conv2d(x, of((2**20, 4, 2**10, 2**10)))",
    "padding": "ck.conv2d(x, w, padding=2**15)",
    "most padding": "ck.conv2d(x, w, padding=2**24)",
    "one dimension": "ck.conv1d(x[:, :, 0], np.ones((4, 4, 3), np.float32), padding=2**40)",
    "long signal": "ck.conv1d(of((1, 1, 2**31)), np.ones((1, 1, 3), np.float32))",
    "explain": "ck.explain((1, 2**40, 9, 9), (4, 2**40, 3, 3))",
    "picture": "ck.filter2D(of((2**16, 2**16)), small)",
    "large picture": "ck.filter2D(of((2**20, 2**20)), small)",
    "bytes": "ck.filter2D(np.broadcast_to(np.uint8(1), (2**20, 2**20)), small)",
    "channels": "ck.filter2D(of((4, 4, 2**40)), small)",
    "kernel": "ck.convolve2d(small, of((2**20, 2**20)), 'same')",
    "large kernel": "ck.convolve2d(small, of((2**15, 2**14)), 'full')",
}

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import convkernels as ck, numpy as np
of = lambda shape: np.broadcast_to(np.float32(1), shape)
small, w, x = np.ones((5, 5), np.float32), np.ones((4, 4, 3, 3), np.float32), np.ones((1, 4, 9, 9), np.float32)
try:
    {}
except MemoryError:
    # The next call works.
    assert ck.conv2d(x, w).sum() == 7 * 7 * 4 * 36
    raise SystemExit(0)
raise SystemExit("expected a MemoryError")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
@pytest.mark.parametrize("call", CALLS)
def test_is_refused(call):
    subprocess.run([sys.executable, "-c", SCRIPT.format(CALLS[call])], check=True, timeout=120)
