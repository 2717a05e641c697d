#!/usr/bin/env bash
# What: in tract LogSoftmax is minus infinity or wrong from 88 below the best on, Softplus is infinite above 88,
#   ReduceLogSumExp too, and a Sigmoid is never below 0.00000045 nor ever 1, whatever its input: far scores become equal.
# Why it surprises: Softmax of the same numbers is right, and LogSoftmax is the operator that exists so that this does not
#   happen. Logits of 20 and -80 are common: a cosine head with a scale of 64 or 100 gives them for every image.
# Who is hurt: cross entropy and log-likelihood on the device (infinite, or too small), averages of log-probabilities over
#   several networks, energy scores for unknown images (ReduceLogSumExp), evidential and variance heads (Softplus), rankings
#   of rare labels by their sigmoid: everything beyond -15 ties.
# Instead: export the logits, and take the logarithms outside in float64; or x - max(x) - log(sum(exp(x - max(x)))) written
#   out of plain operators (checked below).
# Source: https://onnx.ai/onnx/operators/onnx__LogSoftmax.html, https://onnx.ai/onnx/operators/onnx__Sigmoid.html.
# Guessed beforehand: no; expected were differences of rounding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, tract
from onnx import TensorProto, helper, numpy_helper

print("tract", tract.version(), "ONNX Runtime", onnxruntime.__version__)


def answers(nodes, x, held=()):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    held = [numpy_helper.from_array(array, name) for name, array in dict(held).items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, "model.onnx")
    true = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return true, tract.onnx().load("model.onnx").into_model().into_runnable().run([x])[0].to_numpy()


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to], **attributes)


axis = {"axis": np.array([1])}
logits = np.array([[20, 0, -60, -75, -80, -95]], "float32")
true, found = answers([node("LogSoftmax", "x", axis=1)], logits)
print(f"  LogSoftmax of {logits[0]}:\n    {found[0].round(2)}, should be {true[0].round(2)}")
assert np.allclose(true, logits - 20) and np.allclose(found[0, :3], true[0, :3], atol=1e-3)
assert np.isneginf(found[0, -1]) and np.abs(found[0, 3:5] - true[0, 3:5]).min() > 5, "LogSoftmax is right now"
true, found = answers([node("Softmax", "x", axis=1)], logits)
assert np.allclose(true, found, atol=1e-6) and found.argmax() == 0

plain = [node("ReduceMax", "x", "axis", to="m"), node("Sub", "x", "m", to="d"), node("Exp", "d", to="e")]
plain += [node("ReduceSum", "e", "axis", to="s"), node("Log", "s", to="l"), node("Sub", "d", "l")]
assert np.allclose(answers(plain, logits, axis)[1], logits - 20, atol=1e-3)

values = np.array([-30, -20, 20, 88, 89, 200], "float32")
true, found = answers([node("Softplus", "x")], values)
print(f"  Softplus of {values}:\n    {found}, should be {true}")
assert np.isposinf(found[-2:]).all() and np.isfinite(true).all() and (found[:2] == 0).all() and (true[:2] > 0).all()
energy = np.array([[90.0, 85, 3]], "float32")
true, found = answers([node("ReduceLogSumExp", "x", "axis", keepdims=0)], energy, axis)
print(f"  ReduceLogSumExp of {energy[0]}: {found[0]}, should be {true[0]}")
assert np.isposinf(found).all() and np.isfinite(true).all()

scores = np.array([-40, -30, -20, -19, 17, 40], "float32")
_, found = answers([node("Sigmoid", "x")], scores)
true = 1 / (1 + np.exp(-scores.astype("float64")))
print(f"  Sigmoid of {scores}:\n    {[float(f'{value:.3g}') for value in found]}, should be {[float(f'{value:.3g}') for value in true]}")
print(f"  cross entropy of a label at a logit of -40: {-np.log(found[0]):.1f}, should be {-np.log(true[0]):.1f}")
assert len(set(found[:4].tolist())) == 1 and found[0] > 1e-7 and found[-1] < 1, "the ends are right now"
PY
