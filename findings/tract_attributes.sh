#!/usr/bin/env bash
# What: tract runs a recurrent layer of direction "reverse" forwards, leaves the factor alpha out of Celu and the alpha of
#   Swish, and averages where GlobalLpPool adds up. No error; shapes and ranges are plausible.
# Why it surprises: "bidirectional" of the same layers is right, and so are Elu, LeakyRelu and HardSigmoid with their
#   attributes; for hundreds of other cases of the standard tract raises an error where it lacks something.
# Who is hurt: networks on phones, browsers and small devices: a clip or a text read backwards by two stacked layers instead
#   of one of two directions; any network of Celu with an alpha other than one.
# Instead: turn the sequence round before and after a forward layer; write Celu as max(0, x) + min(0, alpha * (exp(x / alpha)
#   - 1)) and Swish as x * Sigmoid(alpha * x) of plain operators (checked below); compare with another runtime.
# Source: https://onnx.ai/onnx/operators/onnx__LSTM.html ("direction: ... must be one of forward (default), reverse, or
#   bidirectional"), https://onnx.ai/onnx/operators/onnx__Celu.html.
# Guessed beforehand: errors for what is not supported, and no wrong answers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, tract
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("tract", tract.version(), "ONNX Runtime", onnxruntime.__version__, "onnx", onnx.__version__)
random = np.random.default_rng(0)


def normal(*shape):
    return random.normal(size=shape).astype("float32")


def answers(nodes, x, held=(), opset=21, by="ONNX Runtime"):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    held = [numpy_helper.from_array(array, name) for name, array in dict(held).items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, "model.onnx")
    found = tract.onnx().load("model.onnx").into_model().into_runnable().run([x])[0].to_numpy()
    if by == "onnx":
        return ReferenceEvaluator(model).run(None, {"x": x})[0], found
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], found


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to], **attributes)


clip = normal(6, 2, 5)  # steps, clips, features
wrong = {}
for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        weights = {"w": normal(count, gates * 3, 5), "r": normal(count, gates * 3, 3)}
        true, found = answers([node(op, "x", "w", "r", hidden_size=3, direction=direction)], clip, weights)
        wrong[op, direction] = bool(np.abs(true - found).max() > 1e-3)
        if direction == "reverse":
            forwards, _ = answers([node(op, "x", "w", "r", hidden_size=3)], clip, weights)
            assert np.allclose(found, forwards, atol=1e-3), "reverse is something else than forward now"
print("  wrong answers:", {f"{op} {direction}": value for (op, direction), value in wrong.items()})
assert all(value == (direction == "reverse") for (_, direction), value in wrong.items())

x = np.array([-3, -1, 0.5, 2], "float32")
for alpha in (0.5, 1.0, 2.0):
    true, found = answers([node("Celu", "x", alpha=alpha)], x)
    print(f"  Celu, alpha {alpha}: {found.round(4)}, should be {true.round(4)}")
    assert np.allclose(found[:2] * alpha, true[:2], atol=1e-4) and np.allclose(found[2:], true[2:])
true, found = answers([node("Elu", "x", alpha=2.0)], x)
assert np.allclose(true, found, atol=1e-4)
true, found = answers([node("Swish", "x", alpha=2.0)], x, opset=24, by="onnx")
print(f"  Swish, alpha 2: {found.round(4)}, should be {true.round(4)}")
assert np.allclose(found, x / (1 + np.exp(-x)), atol=1e-3) and np.abs(found - true).max() > 0.1
image = normal(1, 2, 8, 8)
true, found = answers([node("GlobalLpPool", "x", p=2)], image)
print(f"  GlobalLpPool of 64 pixels: {found.ravel().round(4)}, should be {true.ravel().round(4)}")
assert np.allclose(found * 8, true, atol=1e-3)

plain = [node("Exp", "s", to="e"), node("Sub", "e", "one", to="d"), node("Mul", "a", "d", to="m"), node("Min", "m", "zero", to="n")]
plain = [node("Div", "x", "a", to="s"), *plain, node("Relu", "x", to="p"), node("Add", "p", "n")]
numbers = {name: np.float32(value) for name, value in (("a", 2.0), ("one", 1.0), ("zero", 0.0))}
true, found = answers(plain, x, numbers)
assert np.allclose(found, answers([node("Celu", "x", alpha=2.0)], x)[0], atol=1e-4)
plain = [node("Mul", "x", "a", to="s"), node("Sigmoid", "s", to="g"), node("Mul", "x", "g")]
assert np.allclose(answers(plain, x, {"a": np.float32(2)})[1], x / (1 + np.exp(-2 * x)), atol=1e-3)
print("  of plain operators both are right")
PY
