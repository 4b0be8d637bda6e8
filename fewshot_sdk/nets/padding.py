"""TensorFlow's "same" padding, which published weights and the paper's network were trained with."""

from __future__ import annotations


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one side of an image, for a kernel of that size. Source: TensorFlow, `tf.nn.conv2d`."""
    missing = max((-(-length // stride) - 1) * stride + size - length, 0)
    return missing // 2, missing - missing // 2
