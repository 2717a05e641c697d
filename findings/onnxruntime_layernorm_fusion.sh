#!/usr/bin/env bash
# What: ONNX Runtime with its usual optimisation takes (mean - x) / deviation * scale + shift for a layer normalisation, and
#   answers with (x - mean): the sign is turned. deviation / (x - mean) and a fourth power in place of the square are taken
#   for it too. With the optimisation off all are right.
# Why it surprises: optimisation is on unless it is turned off, and is meant to change the speed only. The pattern is
#   recognised by the kinds of its nodes; which of two inputs is subtracted, or divided, and the exponent, are not looked at.
#   Without scale and shift it is right: one changes a detail and the answer jumps.
# Who is hurt: networks and preprocessing that measure how much darker than its surroundings something is, signal-to-noise
#   ratios, normalisations by higher moments: trained as (mean - x), served as (x - mean). Classes change places.
# Instead: write x - mean and turn the sign of the scale; or the level ORT_DISABLE_ALL (both checked below).
# Source: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html ("Layer Normalization Fusion");
#   github.com/microsoft/onnxruntime/issues/32603 has other gaps of the same rewrite, not the order of the inputs.
# Guessed beforehand: that other constants than 2 might slip through; that the order of the inputs does was not guessed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper

print("ONNX Runtime", onnxruntime.__version__, "onnx", onnx.__version__)
Level = onnxruntime.GraphOptimizationLevel
random = np.random.default_rng(0)
x = random.normal(3, 2, (64, 16)).astype("float32")
held = {
    "axis": np.array([-1]), "power": np.float32(2), "small": np.float32(1e-3),
    "scale": random.uniform(0.5, 1.5, 16).astype("float32"), "shift": random.normal(size=16).astype("float32"),
}  # fmt: skip


def answers(minus=("x", "mean"), over=("apart", "deviation"), affine=True, level=Level.ORT_ENABLE_ALL, **changed):
    node = helper.make_node
    nodes = [node("ReduceMean", ["x", "axis"], ["mean"]), node("Sub", minus, ["apart"]), node("Pow", ["apart", "power"], ["squares"])]
    nodes += [node("ReduceMean", ["squares", "axis"], ["variance"]), node("Add", ["variance", "small"], ["more"])]
    nodes += [node("Sqrt", ["more"], ["deviation"]), node("Div", over, ["normal"])]
    nodes += [node("Mul", ["normal", "scale"], ["scaled"]), node("Add", ["scaled", "shift"], ["y"])] if affine else [node("Identity", ["normal"], ["y"])]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (held | changed).items()]
    ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


apart = x.astype("float64") - x.mean(axis=1, dtype="float64", keepdims=True)
deviation = np.sqrt((apart**2).mean(axis=1, keepdims=True) + 1e-3)
fourth = np.sqrt((apart**4).mean(axis=1, keepdims=True) + 1e-3)
scale, shift = held["scale"], held["shift"]
cases = {
    "(x - mean) / deviation": (apart / deviation, {}, True),
    "(mean - x) / deviation": (-apart / deviation, {"minus": ("mean", "x")}, False),
    "deviation / (x - mean)": (deviation / apart, {"over": ("deviation", "apart")}, False),
    "(x - mean) / root of the fourth powers": (apart / fourth, {"power": np.float32(4)}, False),
}
for name, (true, options, good) in cases.items():
    true = true * scale + shift
    off, usual = answers(level=Level.ORT_DISABLE_ALL, **options), answers(**options)
    same = np.mean(usual.argmax(axis=1) == true.argmax(axis=1))
    print(f"  {name}: as usual off by up to {np.abs(usual - true).max():.2g}, greatest of 16 right in {same:.0%} of rows; not optimised {np.abs(off - true).max():.1g}")
    assert np.allclose(off, true, rtol=1e-3, atol=1e-3)
    assert np.allclose(usual, true, rtol=1e-3, atol=1e-3) == good, f"{name} is other than it was"
    if not good:
        assert np.allclose(usual, apart / deviation * scale + shift, atol=1e-3), "it is no layer normalisation now"
assert np.allclose(answers(scale=-scale), -apart / deviation * scale + shift, atol=1e-3)
assert np.allclose(answers(minus=("mean", "x"), affine=False), -apart / deviation, atol=1e-3)
print("  (mean - x) without scale and shift, or as x - mean with the sign in the scale, is right")
PY
