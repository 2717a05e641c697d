#!/usr/bin/env bash
# What: ONNX Runtime's Sigmoid of float32 is exactly 0 from -18 down, and above that it comes in steps that go up and down:
#   that of -17 is greater than that of -16. A rare label is ranked wrongly, or not at all, and its cross entropy is infinite.
# Why it surprises: float32 holds numbers down to 1e-38; NumPy, TensorFlow, JAX, LiteRT and OpenCV give the exact value, and
#   ONNX Runtime's own Softmax of two scores and Sigmoid of float64 are right. That a greater score can give a smaller
#   probability contradicts what everybody takes a sigmoid for. Zeros are reported (onnxruntime#22557), the order is not.
# Who is hurt: labels of which one image in millions has them, searched for at the top of a list; heads with a prior of rare
#   classes in their bias; losses, energies and calibration from exported probabilities; anything divided by them.
# Instead: export the logits, rank by them, and take the sigmoid outside; or Softmax of [0, x], or Sigmoid in float64.
# Source: https://onnx.ai/onnx/operators/onnx__Sigmoid.html (y = 1 / (1 + exp(-x)), elementwise).
# Guessed beforehand: exact to the rounding of float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 scikit-learn==1.9.1
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np, onnxruntime, sklearn
from onnx import TensorProto, helper
from sklearn.metrics import average_precision_score, roc_auc_score

print("ONNX Runtime", onnxruntime.__version__, "scikit-learn", sklearn.__version__)


def answers(op, x, kind=TensorProto.FLOAT):
    ends = [helper.make_tensor_value_info(name, kind, x.shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def exact(x):
    return 1 / (1 + np.exp(-x.astype("float64")))


for x in (-40, -18, -17.5, -17, -16.5, -16, -15, -10):
    found = answers("Sigmoid", np.full(16, x, "float32"))
    assert len(set(found.tolist())) == 1
    print(f"  sigmoid({x}) = {found[0]:.3g}, should be {exact(np.array([x]))[0]:.3g}")
x = np.linspace(-30, -10, 2001).astype("float32")
found = answers("Sigmoid", x)
falls = int((np.diff(found) < 0).sum())
print(f"  of 2000 steps from -30 to -10: {np.mean(found == 0):.0%} exactly 0, {falls} go down")
assert (found[x < -18.01] == 0).all() and falls > 50, "the tail is right now"
assert np.allclose(answers("Sigmoid", x.astype("float64"), TensorProto.DOUBLE), exact(x), rtol=1e-2, atol=0)
both = np.stack([np.zeros_like(x), x], axis=1)
assert np.allclose(answers("Softmax", both)[:, 1], exact(x), rtol=1e-5, atol=0)
print("  Sigmoid of float64 and Softmax of [0, x] in float32 are right")

random = np.random.default_rng(0)
rare = np.zeros(200_000, bool)
rare[:200] = True
logits = np.where(rare, random.normal(-17, 1.0, rare.size), random.normal(-21, 1.0, rare.size)).astype("float32")
scores = {"logits": logits, "exact sigmoid": exact(logits), "ONNX Runtime": answers("Sigmoid", logits)}
found = {}
for name, score in scores.items():
    found[name] = average_precision_score(rare, score), roc_auc_score(rare, score)
    print(f"  a label of one image in a thousand, by {name}: average precision {found[name][0]:.3f}, AUC {found[name][1]:.4f}")
assert abs(found["logits"][0] - found["exact sigmoid"][0]) < 1e-6 and found["ONNX Runtime"][0] < found["logits"][0] - 0.05
PY
