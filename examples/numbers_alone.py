"""Predict numbers with a regressor's file and onnxruntime alone: `numbers_alone.py MODEL NUMBER...`, for one input."""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
x = np.array([[float(number)] for number in sys.argv[2:]], np.float32)
(y,) = session.run(["y"], {"x": x})
print(*y)
