#!/usr/bin/env bash
# What: Keras writes these into an ONNX file that no ONNX Runtime loads, and returns normally: Conv2D with groups above
#   1 (StatefulPartitionedCall), ops.argmax of floats (Bitcast), celu (Expm1), Discretization (Bucketize), rgb_to_hsv,
#   Conv2DTranspose with padding "valid" and output_padding (negative pads). OpenVINO's exporter takes the first.
# Why it surprises: grouped convolution is an attribute of ONNX's own Conv; it is Keras that wraps the layer into a
#   compiled function when it is traced on a processor, so what is written depends on how Keras got round a gap of
#   TensorFlow's, not on what ONNX can say. ops.argmax is compiled into a trick with the bits of a float.
# Who is hurt: ResNeXt, RegNet, ShuffleNet and whoever puts argmax behind the logits: the export looks finished and the
#   failure comes where the file is used.
# Instead: load every exported file before it is shipped. Split a grouped convolution into slices, one Conv2D each, and
#   concatenate; leave argmax to the caller.
# Source: github.com/onnx/tensorflow-onnx/issues/2099 (grouped convolution, open since 2023); Model.export writes
#   "`onnx`: Export the model in the ONNX format".
# Guessed beforehand: all of them load and agree to 1e-4.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 \
  onnxruntime==1.32.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>/dev/null <<'PY'
import keras, numpy as np, onnxruntime as ort, tensorflow as tf
from keras import layers, ops

print("keras", keras.__version__, "tensorflow", tf.__version__, "onnxruntime", ort.__version__)


def sliced(x):
    """A convolution of two groups, from two convolutions."""
    return layers.Concatenate()([layers.Conv2D(2, 3)(x[..., :2]), layers.Conv2D(2, 3)(x[..., 2:])])


bodies = {
    "Conv2D, two groups": ((9, 9, 4), lambda x: layers.Conv2D(4, 3, groups=2)(x), "StatefulPartitionedCall"),
    "argmax": ((8,), lambda x: ops.cast(ops.argmax(x, axis=1), "float32"), "Bitcast"),
    "celu": ((8,), lambda x: keras.activations.celu(x), "Expm1"),
    "Discretization": ((8,), lambda x: layers.Discretization([-1.0, 0.0, 1.0])(x), "Bucketize"),
    "rgb_to_hsv": ((6, 6, 3), lambda x: ops.image.rgb_to_hsv(ops.sigmoid(x)), "RGBToHSV"),
    "Conv2DTranspose": ((9, 9, 4), lambda x: layers.Conv2DTranspose(3, 3, 2, output_padding=1)(x), "negative"),
    "two Conv2D instead": ((9, 9, 4), sliced, None),
    "elu": ((8,), lambda x: keras.activations.elu(x), None),
}
for name, (shape, body, complaint) in bodies.items():
    inputs = keras.Input(shape)
    model = keras.Model(inputs, body(inputs))
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    expected = np.asarray(model(x))
    model.export("model.onnx", format="onnx", verbose=False)
    try:
        session = ort.InferenceSession("model.onnx")
    except Exception as error:
        print(f"{name}: {type(error).__name__}, {complaint in str(error) and complaint}")
        assert complaint and complaint in str(error), error
        continue
    difference = np.abs(session.run(None, {session.get_inputs()[0].name: x})[0] - expected).max()
    print(f"{name}: loads, difference {difference:.1e}")
    assert complaint is None and difference < 1e-5, "it loads now"
PY
