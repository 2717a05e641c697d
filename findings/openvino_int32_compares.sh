#!/usr/bin/env bash
# What: OpenVINO's CPU device compares, divides and reduces int32 in float32. 16777217 equals 16777216, is not above it, and divided
#   by it leaves no rest; the maximum of three numbers is one that is none of them. Add, Sub and Mul of the same numbers are exact.
# Why it surprises: that int64 is cut to 32 bits is known (openvino#35823), and int32 is what one changes to; it is the one integer
#   type that the CPU device says it has. Inputs and outputs stay int32, nothing is said, and below 2**24 every answer is right.
# Who is hurt: whoever keeps whole numbers in the graph: colours packed with their alpha, hashed names looked up with Equal,
#   times of day in microseconds, offsets into large files, counts of pixels over many images. Neighbours become the same one.
# Instead: keep such numbers outside the graph, or as two halves below 2**24 each; test with numbers as large as real ones.
# Source: https://docs.openvino.ai/2024/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html (INT32
#   among the precisions of internal primitives)
# Guessed beforehand: no; expected was that int32 is exact where int64 is not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto as T, helper

print("onnx", onnx.__version__, "ONNX Runtime", onnxruntime.__version__, "OpenVINO", openvino.__version__)
core = openvino.Core()
KIND = {T.INT32: np.int32}


def both(what, op, kind, values, gives, constant=None, **attributes):
    values = np.array(values, KIND[kind])
    names = ["x"] if constant is None else ["x", "c"]
    held = [] if constant is None else [helper.make_tensor("c", kind, [len(constant)], constant)]
    ends = [helper.make_tensor_value_info("x", kind, values.shape), helper.make_tensor_value_info("y", gives, None)]
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attributes)], "g", ends[:1], ends[1:], held)
    raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    exact = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"]).run(None, {"x": values})[0]
    compiled = core.compile_model(core.read_model(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    other = compiled(values)[0]
    print(f"{what}: ONNX Runtime {exact.tolist()}, OpenVINO {other.tolist()} ({other.dtype})")
    assert other.dtype == exact.dtype
    return exact.tolist(), other.tolist()


BIG = 2**24
CASES = [
    ("Equal", T.BOOL, [False, True, False], [True, True, False]),
    ("Less", T.BOOL, [True, False, False], [False, False, False]),
    ("Div", T.INT32, [0, 1, 1], [1, 1, 1]),
    ("Mod", T.INT32, [BIG, 0, 2], [0, 0, 4]),
    ("Add", T.INT32, [2 * BIG + 1, 2 * BIG + 2, 2 * BIG + 4], [2 * BIG + 1, 2 * BIG + 2, 2 * BIG + 4]),
]
for op, gives, exact, other in CASES:
    found = both(f"{op} of {[BIG, BIG + 1, BIG + 3]} and {BIG + 1}", op, T.INT32, [BIG, BIG + 1, BIG + 3], gives, [BIG + 1])
    assert found == (exact, other), found
found = both(f"largest of {[BIG, BIG + 1, BIG + 3]}", "ReduceMax", T.INT32, [BIG, BIG + 1, BIG + 3], T.INT32, keepdims=0)
assert found == (BIG + 3, BIG + 4), found
PY
