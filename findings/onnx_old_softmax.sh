#!/usr/bin/env bash
# What: Softmax of an ONNX file of opset 12 or older gives three different answers on three runtimes where its input has more
#   than two dimensions. ONNX Runtime takes everything from the axis on together, as those opsets say; OpenVINO takes the
#   axis alone (a channel at each place); onnx's own ReferenceEvaluator takes the last axis. No error, no warning.
# Why it surprises: the file names its opset, so that every reader knows which rule holds; with two dimensions, as in most
#   classifiers, all agree, and from opset 13 on they do as well. LogSoftmax is the same.
# Who is hurt: who runs a file of 2017 to 2020 (segmentation, detection, attention, heads kept as (N, K, 1, 1)) on OpenVINO,
#   or holds it against the reference: probabilities sum to 1 over something else, thresholds and masks change.
# Instead: onnx.version_converter to opset 13 before another runtime sees the file (it writes the flattening out), and one
#   batch compared between the runtimes.
# Source: https://onnx.ai/onnx/operators/onnx__Softmax.html (version 11: "coerced into a 2-D tensor").
# Guessed beforehand: that the reference follows the opset: no.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper, version_converter
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__, "OpenVINO", openvino.__version__)
core = openvino.Core()


def answers(model, x):
    raw = model.SerializeToString()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    compiled = core.compile_model(core.read_model(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "ONNX Runtime": session.run(None, {"x": x})[0],
        "OpenVINO": compiled(x)[0],
        "reference": ReferenceEvaluator(model).run(None, {"x": x})[0],
    }


def over(x, axes):
    e = np.exp(x - x.max(axis=axes, keepdims=True))
    return e / e.sum(axis=axes, keepdims=True)


def model(opset, shape):
    node = helper.make_node("Softmax", ["x"], ["y"])  # axis: 1 up to opset 12, -1 from 13 on
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(made)
    return made


x = np.random.default_rng(0).standard_normal((2, 3, 4, 5), dtype=np.float32)
ways = {"axis 1 to the end together": over(x, (1, 2, 3)), "axis 1": over(x, 1), "the last axis": over(x, 3)}
for opset in (11, 12, 13):
    found = {
        runtime: [name for name, want in ways.items() if np.allclose(got, want, atol=1e-5)]
        for runtime, got in answers(model(opset, x.shape), x).items()
    }
    print(f"opset {opset}, (2, 3, 4, 5):", found)
    if opset < 13:
        assert [found[each] for each in ("ONNX Runtime", "OpenVINO", "reference")] == [[name] for name in ways]
    else:
        assert all(each == ["the last axis"] for each in found.values())
flat = x[:, :, 0, 0].copy()
assert all(np.allclose(got, over(flat, 1), atol=1e-5) for got in answers(model(11, flat.shape), flat).values())
converted = answers(version_converter.convert_version(model(11, x.shape), 13), x)
agree = {name: bool(np.allclose(got, ways["axis 1 to the end together"], atol=1e-5)) for name, got in converted.items()}
print("converted to opset 13, as opset 11 means it:", agree)
assert all(agree.values())
PY
