#!/usr/bin/env bash
# What: OpenCV's DNN module takes means, sums and maxima over three or more axes of an ONNX model from the wrong elements,
#   unless they are the last ones (in 4.12 even then): over batch, height and width, over the depth, height and width
#   of volumes with channels last, over frames and space of a clip. No error, and shapes are right.
# Why it surprises: one and two axes, which pooling and attention use, are right, so that every common image classifier works,
#   and two images in a batch often agree where three do not. The tests of the ONNX standard reduce at most two axes that way;
#   the one that takes (0, 2, 3), inside a normalisation, is on OpenCV's list of skipped ones as "wrong answer".
# Who is hurt: networks for volumes and clips as TensorFlow and Keras export them (channels last), normalisation over
#   batch and space, a clip's frames in the batch axis with one mean over all of them.
# Instead: reduce one or two axes at a time (checked below), or another runtime.
# Source: https://onnx.ai/onnx/operators/onnx__ReduceMean.html ("along the provided axes"); opencv/opencv,
#   modules/dnn/test/test_onnx_conformance_layer_parser_denylist.inl.hpp (test_mvn_expanded).
# Guessed beforehand: exotic operators differ; not this one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > reduce.py <<'PY'
from itertools import combinations

import cv2
import numpy as np
from onnx import TensorProto, helper

random = np.random.default_rng(0)


def answer(values, *steps):
    """What OpenCV makes of `values`, reduced by each step, a tuple of axes that stay with a length of 1."""
    nodes, name, shape = [], "x", list(values.shape)
    for number, axes in enumerate(steps):
        nodes.append(helper.make_node("ReduceMean", [name], [f"y{number}"], axes=list(axes), keepdims=1))
        name, shape = f"y{number}", [1 if axis in axes else size for axis, size in enumerate(shape)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    net.setInput(values, "x")
    return net.forward()


def wrong(values, axes, *steps):
    return bool(np.abs(answer(values, *(steps or (axes,))) - values.mean(axis=axes, keepdims=True)).max() > 1e-4)


print("OpenCV", cv2.__version__)
found = {}
for shape in ((3, 4, 5, 6), (3, 4, 2, 3, 2)):
    values = random.normal(size=shape).astype("float32")
    for count in range(1, len(shape)):
        every = list(combinations(range(len(shape)), count))
        bad = [axes for axes in every if wrong(values, axes)]
        found[len(shape), count] = bad
        print(f"  {len(shape)} axes, mean over {count}: {len(bad)} of {len(every)} wrong {bad if bad else ''}")

ones, twos = found[4, 1] + found[5, 1], found[4, 2] + found[5, 2]
assert not ones and not twos, "one or two axes are wrong as well now"
assert (0, 2, 3) in found[4, 3] and (1, 2, 3) in found[5, 3], "means over three axes are right now"
assert ((1, 2, 3) in found[4, 3]) == cv2.__version__.startswith("4.")

clip = random.normal(size=(8, 16, 7, 7)).astype("float32")  # frames, channels, height, width
volume = random.normal(size=(1, 6, 7, 7, 16)).astype("float32")  # channels last
print("  frames and space of a clip:", answer(clip, (0, 2, 3)).ravel()[:4].round(4), "are", clip.mean(axis=(0, 2, 3))[:4].round(4))
print("  space of a volume         :", answer(volume, (1, 2, 3)).ravel()[:4].round(4), "are", volume.mean(axis=(1, 2, 3)).ravel()[:4].round(4))
print("  in two steps: wrong", wrong(clip, (0, 2, 3), (2, 3), (0,)), wrong(volume, (1, 2, 3), (2, 3), (1,)))
assert wrong(clip, (0, 2, 3)) and wrong(volume, (1, 2, 3))
assert not wrong(clip, (0, 2, 3), (2, 3), (0,)) and not wrong(volume, (1, 2, 3), (2, 3), (1,))
PY
for version in 5.0.0.93 4.12.0.88; do
    python3 -m venv --clear venv
    venv/bin/pip install -qq --disable-pip-version-check "opencv-python-headless==$version" onnx==1.23.2
    venv/bin/python reduce.py 2> errors.txt || { cat errors.txt; exit 1; }
done
