#!/usr/bin/env bash
# What: onnx.version_converter from opset 13 down to 12 or 11 leaves Softmax and LogSoftmax with their axis as it was, though
#   that meant something else before 13: the scores of all pixels of a map then share one sum of 1, instead of each pixel
#   having its own. Upwards Hardmax is left as it was in the same way.
# Why it surprises: going up, the converter writes the change out in full for Softmax; and going down a Softmax over the last
#   axis is right, so that every classifier passes, and Hardmax raises an error. The converted model is valid and has the
#   right shapes.
# Who is hurt: maps of classes (axis 1 of images, classes, height, width), attention over another axis than the last, for
#   accelerators and runtimes that end at opset 11 or 12. The best class of a pixel stays; its probability, thresholds on it
#   and averages over images do not.
# Instead: transpose so that the axis is the last one before converting, or export again at the opset that is wanted; compare
#   both models on one input.
# Source: https://onnx.ai/onnx/api/version_converter.html ("convert between different opset versions"),
#   https://onnx.ai/onnx/operators/text_diff_Softmax_11_13.html.
# Guessed beforehand: errors for what has no counterpart, no changed answers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, version_converter

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__)
x = np.random.default_rng(0).normal(0, 3, (1, 3, 4, 4)).astype("float32")  # images, classes, height, width


def model(op, axis, opset):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], axis=axis)], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def answer(made):
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def changed(op, axis, start, end):
    made = model(op, axis, start)
    converted = version_converter.convert_version(made, end)
    assert converted.opset_import[0].version == end
    return bool(np.abs(answer(made) - answer(converted)).max() > 1e-4)


found = {}
for op in ("Softmax", "LogSoftmax"):
    for start, end in ((13, 12), (13, 11), (12, 13), (11, 18)):
        found[op, start, end] = [axis for axis in range(4) if changed(op, axis, start, end)]
        print(f"  {op} from opset {start} to {end}: other numbers for axis {found[op, start, end] or 'none'}")
        assert found[op, start, end] == ([0, 1, 2] if end < start else [])
wrong = [axis for axis in range(4) if changed("Hardmax", axis, 12, 13)]
print(f"  Hardmax from opset 12 to 13: other numbers for axis {wrong}")
assert 1 in wrong

before = answer(model("Softmax", 1, 13))
after = answer(version_converter.convert_version(model("Softmax", 1, 13), 12))
print(f"  the three classes of the first pixel: {before[0, :, 0, 0].round(3)} before, {after[0, :, 0, 0].round(5)} after")
print(f"  greatest probability of the 16 pixels: {before.max(1).min():.2f} to {before.max(1).max():.2f} before, {after.max(1).max():.2f} at most after")
assert np.allclose(before.sum(1), 1, atol=1e-5) and abs(after.sum() - 1) < 1e-4
assert (before.argmax(1) == after.argmax(1)).all()
PY
