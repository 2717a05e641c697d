#!/usr/bin/env bash
# What: OpenCV's DNN module reads a GRU of an ONNX model that runs backwards as one that runs forwards; of a backward LSTM
#   the final state is that after its first step, in which it has seen one frame, though the sequence beside it is right.
#   No warning; forward and bidirectional ones are right.
# Why it surprises: 5.0 came with a new engine that reads GRU, which 4.12 refused; the attribute has three values, and the
#   rare third is taken for the first.
# Who is hurt: clips and signals with a backward recurrent layer: go_backwards in Keras, bidirectional layers that
#   a converter wrote as one forward and one backward node, networks that read a sequence from its end.
# Instead: direction="bidirectional" and one half of it, reversing the sequence before a forward layer (checked below), or
#   another runtime.
# Source: https://onnx.ai/onnx/operators/onnx__GRU.html ("forward (default), reverse, or bidirectional"; Y_h is "the last
#   output value of the hidden"), https://onnx.ai/onnx/operators/onnx__LSTM.html
# Guessed beforehand: a refusal, as for operators that it does not have.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0
cat > backwards.py <<'PY'
import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

STEPS, SIGNALS, HIDDEN = 6, 3, 5
random = np.random.default_rng(0)
print("OpenCV", cv2.__version__, "ONNX Runtime", onnxruntime.__version__)
frames = random.normal(size=(STEPS, 1, SIGNALS)).astype("float32")


def answers(kind, gates, direction, frames):
    """Sequence and final state of a recurrent layer: of OpenCV, of ONNX Runtime."""
    weights = np.random.default_rng(1)
    kernel = weights.normal(size=(1, gates * HIDDEN, SIGNALS)).astype("float32")
    recurrent = weights.normal(size=(1, gates * HIDDEN, HIDDEN)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w", "r"], ["y", "h"], hidden_size=HIDDEN, direction=direction)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, frames.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (STEPS, 1, 1, HIDDEN)),
         helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, 1, HIDDEN))],
        [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(recurrent, "r")],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    net.setInput(frames, "x")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    shapes = (STEPS, HIDDEN), (HIDDEN,)
    return ([np.reshape(one, shape) for one, shape in zip(net.forward(["y", "h"]), shapes)],
            [np.reshape(one, shape) for one, shape in zip(session.run(None, {"x": frames}), shapes)])


def apart(one, other):
    return float(np.abs(one - other).max())


found = {}
for kind, gates in (("GRU", 3), ("LSTM", 4)):
    forward, reverse = (answers(kind, gates, direction, frames) for direction in ("forward", "reverse"))
    turned = answers(kind, gates, "forward", frames[::-1].copy())[0]
    print(f"{kind}: OpenCV against ONNX Runtime, largest difference of the sequence and of the final state")
    for name, (ours, theirs) in {"forward": forward, "reverse": reverse}.items():
        print(f"  {name}: {apart(ours[0], theirs[0]):.2g}, {apart(ours[1], theirs[1]):.2g}")
    (sequence, state), (right, final) = reverse
    found[kind] = sequence, state, right, final, forward[1]
    assert apart(forward[0][0], forward[1][0]) < 1e-5 and apart(forward[0][1], forward[1][1]) < 1e-5
    assert apart(turned[1], final) < 1e-5, "a forward layer over the reversed sequence is no way out"

sequence, state, right, final, (ahead, last) = found["GRU"]
print(f"GRU reverse in OpenCV, from the forward one: {apart(sequence, ahead):.2g}, {apart(state, last):.2g}")
assert apart(sequence, right) > 0.1 and apart(sequence, ahead) < 1e-5 and apart(state, last) < 1e-5
sequence, state, right, final, _ = found["LSTM"]
print(f"LSTM reverse in OpenCV, its final state from that after its first step: {apart(state, right[-1]):.2g}")
assert apart(sequence, right) < 1e-5 and apart(state, final) > 0.1 and apart(state, right[-1]) < 1e-5
PY
venv/bin/python backwards.py 2> errors.txt || { cat errors.txt; exit 1; }
