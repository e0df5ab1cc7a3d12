"""Fast convolutions on CPUs for NumPy arrays and PyTorch tensors.

``ConvPlan`` packs the weights of a convolution once and runs on inputs of any batch and image size. ``conv2d`` and
``conv1d`` are single calls with PyTorch's arguments, ``convolve2d`` follows SciPy and ``filter2D`` follows OpenCV.
``convkernels.torch`` holds what needs PyTorch. Importing this package does not import PyTorch.
"""

from ._convkernels import __version__
from ._count import Count, LayerCount, count
from ._functions import conv1d, conv2d, explain
from ._images import convolve2d, filter2D
from ._plan import ConvPlan

__all__ = [
    "ConvPlan",
    "Count",
    "LayerCount",
    "__version__",
    "conv1d",
    "conv2d",
    "convolve2d",
    "count",
    "explain",
    "filter2D",
]
