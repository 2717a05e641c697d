#!/usr/bin/env bash
# What: onnx.reference.ReferenceEvaluator is not what the operators' definitions say: LpNormalization with p=1 divides by
#   the sum of the numbers, not of their absolute values (what is left is not of length 1, and may be infinite); MaxPool with
#   auto_pad="SAME_LOWER" gives a smaller output than with SAME_UPPER; LRN normalises as many channels as there are images in
#   the batch, the others not at all; LSTM reads every sequence to its end, whatever sequence_lens says, and leaves `clip`
#   out. ONNX Runtime and the formulas agree.
# Why it surprises: it is the reference, written to be looked at, and the obvious oracle for an exporter's tests.
# Who is hurt: who tests a converter or a runtime against it: right files are called wrong, and wrong ones right.
# Instead: two independent runtimes and the formula in NumPy for what is doubtful.
# Source: https://onnx.ai/onnx/operators/onnx__LpNormalization.html, onnx__MaxPool.html, onnx__LRN.html, onnx__LSTM.html;
#   https://onnx.ai/onnx/api/reference.html ("implements the specification").
# Guessed beforehand: pooling with SAME_LOWER yes; the others no.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__)


def both(operator, x, shape, more=None, **attributes):
    more = more or {}
    node = helper.make_node(operator, ["x", *more], ["y"], **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", x.shape), ("y", shape))]
    given = [numpy_helper.from_array(value, name) for name, value in more.items() if name]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0], session.run(None, {"x": x})[0]


x = np.random.default_rng(0).standard_normal((1, 3, 7, 7), dtype=np.float32)
reference, runtime = both("LpNormalization", x, x.shape, p=1, axis=1)
formula = x / abs(x).sum(axis=1, keepdims=True)
assert np.allclose(runtime, formula, atol=1e-6) and not np.allclose(reference, formula, atol=1e-2)
lengths = abs(reference).sum(axis=1)
print(f"LpNormalization, p=1: lengths after it by the reference {lengths.min():.2f} to {lengths.max():.2f}, by ONNX Runtime 1")

sizes = {}
for way in ("SAME_UPPER", "SAME_LOWER"):
    reference, runtime = both("MaxPool", x, (1, 3, 4, 4), kernel_shape=[3, 3], strides=[2, 2], auto_pad=way)
    sizes[way] = reference.shape[2:], runtime.shape[2:]
    print(f"MaxPool of 7 x 7 in steps of 2, {way}: reference {sizes[way][0]}, ONNX Runtime {sizes[way][1]}")
assert sizes == {"SAME_UPPER": ((4, 4), (4, 4)), "SAME_LOWER": ((3, 3), (4, 4))}

x = 50 * np.random.default_rng(1).standard_normal((8, 8, 7, 7), dtype=np.float32)  # activations of an ordinary size
square = np.stack([(x[:, max(0, channel - 1) : channel + 2] ** 2).sum(axis=1) for channel in range(8)], axis=1)
formula = x / (1 + 1e-4 / 3 * square) ** 0.75
for batch in (1, 2, 8):
    reference, runtime = both("LRN", x[:batch], x[:batch].shape, size=3)
    assert np.allclose(runtime, formula[:batch], rtol=1e-4)
    wrong = [channel for channel in range(8) if not np.allclose(reference[:, channel], formula[:batch, channel], rtol=1e-4)]
    print(f"LRN of 8 channels, {batch} images: the reference is wrong in channels {wrong}")
    assert wrong == list(range(batch, 8))

random = np.random.default_rng(2)
steps, batch, width, units = 6, 2, 5, 3
x = random.standard_normal((steps, batch, width), dtype=np.float32)
w, r = (random.standard_normal((1, 4 * units, size), dtype=np.float32) for size in (width, units))
bias = np.zeros((1, 8 * units), np.float32)
lengths = np.array([steps, 2], np.int32)
shape = (steps, 1, batch, units)
reference, runtime = both("LSTM", x, shape, {"w": w, "r": r, "b": bias, "lengths": lengths}, hidden_size=units)
whole, _ = both("LSTM", x, shape, {"w": w, "r": r, "b": bias}, hidden_size=units)
assert np.all(runtime[2:, 0, 1] == 0) and np.allclose(runtime[:2], whole[:2], atol=1e-5)
print("LSTM, second sequence of 2 steps: reference goes on after them:", bool(np.any(reference[2:, 0, 1] != 0)))
assert np.array_equal(reference, whole)
reference, runtime = both("LSTM", 5 * x, shape, {"w": w, "r": r, "b": bias}, hidden_size=units, clip=0.5)
unclipped, _ = both("LSTM", 5 * x, shape, {"w": w, "r": r, "b": bias}, hidden_size=units)
print(f"LSTM, clip=0.5: reference and ONNX Runtime differ by {abs(reference - runtime).max():.2f}")
assert np.array_equal(reference, unclipped) and abs(reference - runtime).max() > 0.1
PY
