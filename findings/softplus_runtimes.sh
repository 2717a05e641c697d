#!/usr/bin/env bash
# What: Softplus, which is positive and finite by definition, is infinite above 89 in LiteRT, tract and OpenCV's DNN, exactly
#   0 below -17 in LiteRT and tract, and negative for some inputs below -15 in OpenVINO. LiteRT's log_sigmoid is minus
#   infinity below -89.
# Why it surprises: it is put at the end of a head because its result can be divided by, and its logarithm taken; TensorFlow,
#   JAX and ONNX Runtime give the exact value over the whole range, so that nothing is seen before the export.
# Who is hurt: variances, scales, evidence (Dirichlet) and rates after a Softplus: the logarithm of OpenVINO's is NaN, one
#   divided by LiteRT's is infinite; one infinite activation makes everything after it NaN.
# Instead: export what goes into the Softplus and apply it outside; or max(x, 0) + log(1 + exp(-|x|)) of plain operators for
#   the upper end, and a small number added for the lower one.
# Source: https://onnx.ai/onnx/operators/onnx__Softplus.html; https://www.tensorflow.org/api_docs/python/tf/math/softplus
#   ("always takes on positive values"); inexact, not negative, in openvinotoolkit/openvino#23673.
# Guessed beforehand: rounding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tensorflow==2.21.0 ai-edge-litert==2.3.0 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 \
    opencv-python-headless==5.0.0.93 tract==0.23.9 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
from importlib.metadata import version

import cv2, numpy as np, onnx, onnxruntime, openvino, tensorflow as tf, tract
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper

names = ("tensorflow", "ai-edge-litert", "onnxruntime", "openvino", "opencv-python-headless", "tract")
print({name: version(name) for name in names})
values = np.concatenate([np.linspace(-60, -10, 501), [0, 50, 88, 89.5, 100, 1000]]).astype("float32")
true = np.logaddexp(0, values.astype("float64"))
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name in "xy"]
graph = helper.make_graph([helper.make_node("Softplus", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, "model.onnx")


def by_litert(function):
    traced = tf.function(function, input_signature=[tf.TensorSpec(values.shape, tf.float32)]).get_concrete_function()
    network = Interpreter(model_content=tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert())
    network.allocate_tensors()
    network.set_tensor(network.get_input_details()[0]["index"], values)
    network.invoke()
    return network.get_tensor(network.get_output_details()[0]["index"])


def by_opencv():
    net = cv2.dnn.readNetFromONNX("model.onnx")
    net.setInput(values, "x")
    return net.forward().reshape(-1)


core = openvino.Core()
found = {
    "TensorFlow": tf.math.softplus(values).numpy(),
    "ONNX Runtime": onnxruntime.InferenceSession("model.onnx").run(None, {"x": values})[0],
    "LiteRT": by_litert(tf.math.softplus),
    "tract": tract.onnx().load("model.onnx").into_model().into_runnable().run([values])[0].to_numpy(),
    "OpenCV": by_opencv(),
    "OpenVINO": np.array(core.compile_model("model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([values])[0]),
}
counts = {}
for name, result in found.items():
    counts[name] = [int(which.sum()) for which in (np.isinf(result), result == 0, result < 0)]
    print(f"  {name}: of {values.size} values {counts[name][0]} infinite, {counts[name][1]} zero, {counts[name][2]} negative; least {result.min():.3g}")
for name in ("TensorFlow", "ONNX Runtime"):
    assert counts[name] == [0, 0, 0] and np.allclose(found[name], true, rtol=1e-4, atol=0)
assert all(np.isinf(found[name][values > 89]).all() for name in ("LiteRT", "tract", "OpenCV")), "large values are right now"
assert all((found[name][values < -18] == 0).all() for name in ("LiteRT", "tract")), "small values are right now"
assert counts["OpenVINO"][2] > 0, "never negative now"
result = by_litert(lambda x: tf.math.log_sigmoid(-x))
print("  log_sigmoid of -89.5, -100 and -1000 by LiteRT:", result[-3:])
assert np.isneginf(result[-3:]).all()
PY
