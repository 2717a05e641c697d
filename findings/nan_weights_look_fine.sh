#!/usr/bin/env bash
# What: a small network whose first kernel is NaN throughout gives finite probabilities (0.2 each of five) and a finite
#   loss (log 5): from predict and evaluate of Keras on TensorFlow and on JAX, on a processor, and from OpenVINO. Called
#   directly, model(x) gives NaN for convolution with ReLU inside. ONNX Runtime and LiteRT give NaN. ReLU and max
#   pooling are where it is lost: their kernels compare, and a comparison with NaN takes the other operand.
# Why it surprises: NaN is expected to spread. tf.nn.relu of NaN is NaN, and whether it is here depends on whether the
#   graph optimiser fused it with the layer before it.
# Who is hurt: whoever takes "no NaN in the output" or "no NaN in val_loss" for a healthy model: TerminateOnNaN,
#   checks after loading or export, monitoring of a served model. A network that diverged looks like an undecided one.
# Instead: look at the weights (numpy.isfinite over get_weights()), not at the outputs.
# Source: github.com/tensorflow/tensorflow/issues/119628 (relu6 under XLA drops NaN, while eager execution keeps it);
#   github.com/tensorflow/tensorflow/issues/40072 ("All devices should show consistent behavior like the CPU, returning
#   nan").
# Guessed beforehand: NaN everywhere but in OpenVINO.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 jax==0.10.2 jaxlib==0.10.2 \
  tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 ai-edge-litert==2.3.0 numpy==2.4.6
cat > network.py <<'PY'
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers

images = np.random.default_rng(0).uniform(0, 1, (4, 32, 32, 3)).astype("float32")


def network(normalised):
    """Two convolutions and a softmax over five classes; the first kernel is NaN."""
    keras.utils.set_random_seed(0)
    body = [keras.Input((32, 32, 3))]
    for _ in range(2):
        if normalised:
            body += [layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
        else:
            body += [layers.Conv2D(8, 3, activation="relu")]
        body += [layers.MaxPooling2D(2)]
    model = keras.Sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax")])
    model.layers[0].kernel.assign(np.full(model.layers[0].kernel.shape, np.nan, "float32"))
    model.compile(loss="sparse_categorical_crossentropy")
    return model


def finite(probabilities):
    return bool(np.isfinite(np.asarray(probabilities)).all())


if __name__ == "__main__":
    for normalised in (False, True):
        model = network(normalised)
        called, predicted = finite(model(images)), finite(model.predict(images, verbose=0))
        loss = float(model.evaluate(images, np.arange(4), verbose=0))
        name = "convolution, BatchNormalization, ReLU" if normalised else "convolution with ReLU"
        print(f"{keras.backend.backend()}, {name}: finite when called {called}, predict {predicted}, loss {loss:.3f}")
        assert predicted and abs(loss - np.log(5)) < 1e-3, "NaN reaches the output now"
        assert normalised or not called
PY
cat > exported.py <<'PY'
from network import finite, images, keras, network, np

import onnxruntime, openvino
from ai_edge_litert.interpreter import Interpreter

print("onnxruntime", onnxruntime.__version__, "openvino", openvino.__version__)
for normalised in (False, True):
    model = network(normalised)
    model(images)
    for kind, name in (("onnx", "m.onnx"), ("openvino", "m.xml"), ("litert", "m.tflite")):
        model.export(name, format=kind, verbose=False)
    session = onnxruntime.InferenceSession("m.onnx")
    onnx = session.run(None, {session.get_inputs()[0].name: images})[0]
    vino = openvino.Core().compile_model("m.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]
    lite = Interpreter("m.tflite")
    entry = lite.get_input_details()[0]["index"]
    lite.resize_tensor_input(entry, images.shape)
    lite.allocate_tensors()
    lite.set_tensor(entry, images)
    lite.invoke()
    found = finite(onnx), finite(vino), finite(lite.get_tensor(lite.get_output_details()[0]["index"]))
    print(f"BatchNormalization {normalised}: finite in ONNX Runtime {found[0]}, OpenVINO {found[1]}, LiteRT {found[2]}")
    assert found == (False, True, False), found
PY
KERAS_BACKEND=tensorflow venv/bin/python network.py 2>/dev/null
KERAS_BACKEND=jax venv/bin/python network.py 2>/dev/null
KERAS_BACKEND=tensorflow venv/bin/python exported.py 2>/dev/null
