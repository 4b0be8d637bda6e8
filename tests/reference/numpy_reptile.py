"""Reptile in NumPy, float64, written from the paper alone: no autograd, no torch.

Conv4 with stride 2, TensorFlow's "same" padding, batch norm over the batch given, hand-written
gradients, Adam with beta1 = 0, all tasks of an outer step from one start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def same_pad(x: Array) -> tuple[Array, int, int]:
    pads = []
    for size in x.shape[2:]:
        out = (size + 1) // 2
        total = max((out - 1) * 2 + 3 - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, ((0, 0), (0, 0), *pads)), pads[0][0], pads[1][0]


def conv(x: Array, w: Array, b: Array) -> Array:
    padded, _, _ = same_pad(x)
    height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    out = np.empty((len(x), len(w), height, width))
    for i in range(height):
        for j in range(width):
            patch = padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            out[:, :, i, j] = np.tensordot(patch, w, ([1, 2, 3], [1, 2, 3])) + b
    return out


def conv_back(x: Array, w: Array, dout: Array) -> tuple[Array, Array, Array]:
    padded, top, left = same_pad(x)
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(2 * i, 2 * i + 3), slice(2 * j, 2 * j + 3)
            dw += np.tensordot(dout[:, :, i, j], padded[:, :, rows, columns], ([0], [0]))
            dpadded[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, ([1], [0]))
    dx = dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return dx, dw, dout.sum((0, 2, 3))


def loss_and_grads(w: Weights, x: Array, labels: NDArray[np.int64], eps: float) -> tuple[float, Weights]:
    inputs, normed, scales, before_relu = [], [], [], []
    for i in range(1, 5):
        inputs.append(x)
        y = conv(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"])
        scale = 1 / np.sqrt(y.var((0, 2, 3), keepdims=True) + eps)
        hat = (y - y.mean((0, 2, 3), keepdims=True)) * scale
        z = hat * w[f"norm{i}.weight"][:, None, None] + w[f"norm{i}.bias"][:, None, None]
        normed.append(hat)
        scales.append(scale)
        before_relu.append(z)
        x = np.maximum(z, 0)
    flat = x.reshape(len(x), -1)
    logits = flat @ w["head.weight"].T + w["head.bias"]
    logits -= logits.max(1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(x)), labels]).mean()

    dlogits = (p - np.eye(p.shape[1])[labels]) / len(x)
    grads = {"head.weight": dlogits.T @ flat, "head.bias": dlogits.sum(0)}
    dx = (dlogits @ w["head.weight"]).reshape(x.shape)
    for i in range(4, 0, -1):
        dz = dx * (before_relu[i - 1] > 0)
        hat = normed[i - 1]
        grads[f"norm{i}.weight"] = (dz * hat).sum((0, 2, 3))
        grads[f"norm{i}.bias"] = dz.sum((0, 2, 3))
        dhat = dz * w[f"norm{i}.weight"][:, None, None]
        centred = dhat - dhat.mean((0, 2, 3), keepdims=True)
        dy = scales[i - 1] * (centred - hat * (dhat * hat).mean((0, 2, 3), keepdims=True))
        dx, dw, db = conv_back(inputs[i - 1], w[f"conv{i}.weight"], dy)
        grads[f"conv{i}.weight"], grads[f"conv{i}.bias"] = dw, db
    return float(loss), grads


def adam(w: Weights, v: Weights, t: int, g: Weights, lr: float, beta2: float, eps: float) -> tuple[Weights, Weights]:
    new_v = {k: beta2 * v[k] + (1 - beta2) * g[k] ** 2 for k in w}
    new_w = {k: w[k] - lr * g[k] / (np.sqrt(new_v[k] / (1 - beta2**t)) + eps) for k in w}
    return new_w, new_v


def outer_step(
    w: Weights,
    v: Weights,
    updates: int,
    tasks: list[tuple[Array, NDArray[np.int64], NDArray[np.int64]]],
    *,
    lr: float,
    beta2: float,
    adam_eps: float,
    norm_eps: float,
    step: float,
) -> tuple[Weights, Weights, int]:
    """One outer step over tasks of (images (n, 1, h, w), labels (n,), batches (steps, size))."""
    ends = []
    for images, labels, batches in tasks:
        task_w, task_v = w, v
        for done, batch in enumerate(batches, 1):
            _, g = loss_and_grads(task_w, images[batch], labels[batch], norm_eps)
            task_w, task_v = adam(task_w, task_v, updates + done, g, lr, beta2, adam_eps)
        ends.append((task_w, task_v))
    mean_w = {k: np.mean([end[k] for end, _ in ends], axis=0) for k in w}
    mean_v = {k: np.mean([end[k] for _, end in ends], axis=0) for k in w}
    moved = {k: w[k] + step * (mean_w[k] - w[k]) for k in w}
    return moved, mean_v, updates + len(tasks[0][2])
