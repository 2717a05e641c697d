#!/usr/bin/env bash
# What: onnxsim and onnxoptimizer take dropouts of the same features for one computation and leave one of eight, onnxslim takes
#   all of them out, though they are switched on: the predictions sampled in one run are all the same.
# Why it surprises: equal nodes with equal inputs are merged as common subexpressions, which is right for all but random ones,
#   and dropout in training mode is no identity. The file loads, shapes and means are right, nothing is said. ONNX Runtime
#   merges equal nodes too, and leaves dropout alone.
# Who is hurt: Monte Carlo and multi-sample dropout in one graph: the uncertainty of every image is 0, so that nothing is passed
#   on to a human; noise for robustness or privacy that cancels.
# Instead: export without simplification, or, but for onnxslim, repeat the image in the batch (both checked below).
# Source: https://onnx.ai/onnx/operators/onnx__Dropout.html (training_mode, seed: "If not specified we will auto generate one").
# Guessed beforehand: that one of the three merges them; that onnxslim removes them was not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 onnxsim==0.8.1 onnxoptimizer==0.4.2 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import contextlib, importlib.metadata, io

import numpy as np, onnx, onnxoptimizer, onnxruntime, onnxsim, onnxslim
from onnx import TensorProto, helper, numpy_helper

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("onnxsim", "onnxslim", "onnxoptimizer", "onnxruntime")))
random = np.random.default_rng(0)
classes = random.normal(size=(32, 5)).astype("float32")
held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (("classes", classes), ("ratio", np.float32(0.5)), ("on", np.array(True)))]
node = helper.make_node


def network(samples, rows):
    nodes, scores = [], [f"score{n}" for n in range(samples)]
    for n in range(samples):
        nodes += [node("Dropout", ["x", "ratio", "on"], [f"kept{n}"]), node("MatMul", [f"kept{n}", "classes"], [scores[n]])]
    nodes.append(node("Concat", scores, ["y"], axis=0))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [rows, 32]), ("y", [rows * samples, 5]))]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], held), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def spread(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": x})[0].std(axis=0).mean())


tools = {
    "as exported": lambda model: model,
    "onnxsim": lambda model: onnxsim.simplify(model)[0],
    "onnxslim": onnxslim.slim,
    "onnxoptimizer": onnxoptimizer.optimize,
}
expected = {"as exported": 8, "onnxsim": 1, "onnxslim": 0, "onnxoptimizer": 1}
features = random.normal(size=(1, 32)).astype("float32")
for name, tool in tools.items():
    with contextlib.redirect_stdout(io.StringIO()):
        eight, rows = tool(network(8, 1)), tool(network(1, 8))
    left = sum(node.op_type == "Dropout" for node in eight.graph.node)
    found = spread(eight, features), spread(rows, np.repeat(features, 8, axis=0))
    print(f"  {name}: {left} of 8 dropouts left, deviation over the samples {found[0]:.2f}; the image repeated eight times {found[1]:.2f}")
    assert left == expected[name], f"{name} leaves other dropouts now"
    assert (found[0] > 0.5) == (left == 8) and (found[1] > 0.5) == (left > 0) and min(found) >= 0
    assert left == 8 or found[0] < 1e-6
PY
