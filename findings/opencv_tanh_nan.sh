#!/usr/bin/env bash
# What: the DNN module of OpenCV 5 gives NaN for the Tanh of 44.2 and more, instead of 1, in every full group of numbers that
#   the processor takes at once, eight with AVX2; in the rest of the row the same number gives 1. The tanh form of GELU, as
#   Keras exports it, is NaN from 10.1 on.
# Why it surprises: OpenCV 4 gives 1; a tanh cannot overflow, that of -1000 is right, and a test of a few numbers finds
#   nothing. No error; a NaN in one feature makes all probabilities NaN after the next dense layer, and its argmax is class 0.
# Who is hurt: networks with approximate GELU (those of SigLIP, Gemma and GPT): a few activations far above ten are usual in
#   transformers, in some images only; capped logits and attention (30 * tanh(x / 30)); features and pixels of 0 to 255 before
#   a tanh.
# Instead: the exact GELU; 2 * Sigmoid(2 x) - 1 in place of Tanh, or Clip(-20, 20) before it (both checked below); look for
#   NaN in what comes out; another runtime.
# Source: https://onnx.ai/onnx/operators/onnx__Tanh.html.
# Guessed beforehand: differences of rounding only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > tanh.py <<'PY'
import cv2, numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper

print("OpenCV", cv2.__version__)
FIVE = cv2.__version__.startswith("5.")


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to], **attributes)


def answers(nodes, x, **numbers):
    x = np.asarray(x, "float32")[None]
    held = [numpy_helper.from_array(np.array([value], "float32"), name) for name, value in numbers.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(raw, np.uint8))
    net.setInput(x, "x")
    true = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return net.forward().reshape(-1), true.reshape(-1)


tanh = [node("Tanh", "x")]
for count in (3, 64, 67):
    found, true = answers(tanh, [50] * count)
    print(f"  tanh of 50, {count} times: {int(np.isnan(found).sum())} NaN, {int((found == 1).sum())} are 1")
    full = count // 64 * 64 if FIVE else 0
    assert (true == 1).all() and np.isnan(found[:full]).all() and (found[full:] == 1).all()
values = [-1000, -50, 0.5, 44, 44.3, 50, 60, 1000]
found, true = (result[:8] for result in answers(tanh, values * 8))
print(f"  tanh of {values}: {found}")
assert np.allclose(found[:4], true[:4]) and np.isfinite(true).all()
assert np.isnan(found[5:]).all() if FIVE else np.allclose(found, true)

gelu = [node("Pow", "x", "three", to="x3"), node("Mul", "x3", "c", to="k"), node("Add", "x", "k", to="s")]
gelu += [node("Mul", "s", "q", to="t"), node("Tanh", "t", to="u"), node("Add", "u", "one", to="v"), node("Mul", "x", "half", to="h")]
gelu += [node("Mul", "h", "v")]
numbers = {"three": 3.0, "c": 0.044715, "q": 0.7978846, "one": 1.0, "half": 0.5}
values = [-20, -3, 0.5, 5, 10, 11, 12, 30]
found, true = (result[:8] for result in answers(gelu, values * 8, **numbers))
print(f"  GELU by tanh of {values}: {found}, should be {true}")
assert np.allclose(found[:5], true[:5], atol=1e-4) and np.allclose(true[5:], values[5:])
assert np.isnan(found[5:]).all() if FIVE else np.allclose(found, true, atol=1e-4)

by_sigmoid = [node("Mul", "x", "two", to="d"), node("Sigmoid", "d", to="s"), node("Mul", "s", "two", to="e"), node("Sub", "e", "one")]
values = [-1000, -50, -1, 0.5, 44, 45, 60, 1000]
found, true = answers(by_sigmoid, values, two=2.0, one=1.0)
assert np.allclose(found, np.tanh(values), atol=1e-5)
clipped = [node("Clip", "x", "low", "high", to="c"), node("Tanh", "c")]
held = [numpy_helper.from_array(np.array(value, "float32"), name) for name, value in (("low", -20.0), ("high", 20.0))]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8)) for name in "xy"]
graph = helper.make_graph(clipped, "g", ends[:1], ends[1:], held)
raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
net = cv2.dnn.readNetFromONNX(np.frombuffer(raw, np.uint8))
net.setInput(np.array([values], "float32"), "x")
assert np.allclose(net.forward(), np.tanh(values), atol=1e-5)
print("  by Sigmoid, and with Clip before it, all are right")
PY
for version in 5.0.0.93 4.12.0.88; do
    python3 -m venv --clear venv
    venv/bin/pip install -qq --disable-pip-version-check "opencv-python-headless==$version" onnx==1.23.2 onnxruntime==1.32.0
    ORT_DISABLE_TELEMETRY=1 venv/bin/python tanh.py 2> errors.txt || { cat errors.txt; exit 1; }
done
