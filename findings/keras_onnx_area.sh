#!/usr/bin/env bash
# What: Resizing(interpolation="area") exports to ONNX, loads, runs, and gives other pixels than Keras: on noise off by up to
#   more than half of the range, because what is written is nearest neighbour. "bilinear" and "nearest" agree to
#   1e-5; for "bicubic" the file runs into an error and for "lanczos3" it does not load, so only "area" is wrong
#   without a word.
# Why it surprises: what a converter cannot say in ONNX it is expected to refuse, as it does for its neighbours.
# Who is hurt: models that take large photographs and shrink them inside by "area", the interpolation that needs no
#   antialias and the one a network's users reach for because antialiased Resizing cannot be exported at all.
# Instead: AveragePooling2D where the factor is a whole number (it agrees to 1e-5), or resize before the model.
# Source: keras.layers.Resizing: "interpolation: String, the interpolation method. Supports `"bilinear"`, `"nearest"`,
#   `"bicubic"`, `"area"`, `"lanczos3"`, `"lanczos5"`, `"gaussian"`, `"mitchellcubic"`."
# Guessed beforehand: a file that does not load.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 \
  onnxruntime==1.32.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>/dev/null <<'PY'
import keras, numpy as np, onnx, onnxruntime as ort, tensorflow as tf
from keras import layers

print("keras", keras.__version__, "tensorflow", tf.__version__, "onnxruntime", ort.__version__)
images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
resizers = {name: layers.Resizing(16, 16, interpolation=name) for name in ("area", "bilinear", "nearest")}
resizers["average pooling"] = layers.AveragePooling2D(4)
differences = {}
for name, layer in resizers.items():
    model = keras.Sequential([keras.Input((64, 64, 3)), layer])
    expected = np.asarray(model(images))
    model.export("model.onnx", format="onnx", verbose=False)
    session = ort.InferenceSession("model.onnx")
    result = session.run(None, {session.get_inputs()[0].name: images})[0]
    differences[name] = np.abs(result - expected)
    modes = [
        attribute.s.decode()
        for node in onnx.load("model.onnx").graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
        if attribute.name == "mode"
    ]
    print(f"{name}: {modes} mean difference {differences[name].mean():.2f}, largest {differences[name].max():.2f}")
    if name == "area":
        nearest = np.abs(result - images[:, ::4, ::4]).max()
        print(f"  its pixels are every fourth of the image: largest difference {nearest:.2f}")
area = differences.pop("area")
assert area.mean() > 20 and area.max() > 100, "area is exported rightly now"
assert all(difference.max() < 1e-3 for difference in differences.values())
PY
