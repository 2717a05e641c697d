#!/usr/bin/env bash
# What: TensorFlow's converter gives the bias of a layer that is used several times the scale of one of its uses when it quantises to
#   16-bit activations and 8-bit weights: of a convolution on three inputs of deviations 1, 0.2 and 7 two outputs are wrong by three
#   times their deviation, the third is right. Three layers with equal weights fare no better, since equal constants are merged. To
#   8 bits throughout all are right.
# Why it surprises: 16 bits are what the guide advises where 8 are too coarse, and here they are two hundred times worse; the weights are
#   shared rightly. Nothing is warned of.
# Who is hurt: heads shared by the levels of a pyramid, siamese networks, one encoder for two images, recurrence that is unrolled.
# Instead: 8 bits; or ai-edge-quantizer for 16 and 8 (both checked below).
# Source: https://ai.google.dev/edge/litert/models/post_training_integer_quant_16x8 ("improve accuracy of the quantized model
#   significantly, when activations are sensitive to the quantization").
# Guessed beforehand: right, and better than 8 bits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0 ai-edge-quantizer==0.10.0 numpy==2.4.6
cat > measure.py <<'PY'
import contextlib
import io
from importlib.metadata import version

import keras, numpy as np, tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from keras import layers

versions = [version(name) for name in ("ai-edge-litert", "ai-edge-quantizer")]
print("TensorFlow", tf.__version__, "Keras", keras.__version__, "LiteRT", versions[0], "ai-edge-quantizer", versions[1])
random = np.random.default_rng(0)
keras.utils.set_random_seed(0)
images = random.normal(0, 1, (32, 1, 16, 16, 8)).astype("float32")
scales = {"medium": 1.0, "small": 0.2, "large": 7.0}


def head(name):
    return layers.Conv2D(8, 3, name=name, kernel_initializer=keras.initializers.RandomNormal(0, 0.1, seed=1), bias_initializer=keras.initializers.RandomNormal(0, 1, seed=2))


def network(shared):
    given = keras.Input((16, 16, 8), batch_size=1)
    one = head("head")
    ends = {name: (one if shared else head(name))(given * scale) for name, scale in scales.items()}
    return keras.Model(given, ends)


def by_converter(model, kind):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.target_spec.supported_ops = [kind]
    return converter.convert()


def by_quantizer(model):
    with open("plain.tflite", "wb") as file:
        file.write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    tool = quantizer.Quantizer("plain.tflite", recipe.static_wi8_ai16())
    (name, signature), = Interpreter("plain.tflite").get_signature_list().items()
    calibration = tool.calibrate({name: [{signature["inputs"][0]: image} for image in images]})
    return bytes(tool.quantize(calibration).quantized_model)


def errors(model, content):
    """Of each output the error after quantisation over its deviation."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    ((name, given),), ends = runner.get_input_details().items(), runner.get_output_details()
    keys = sorted(ends)  # named as in the model, or output_0 to output_2 in the same order
    exact = [keras.ops.convert_to_numpy(value) for _, value in sorted(model(images[:, 0]).items())]
    found = {key: [] for key in keys}
    for image in images:
        scale, _ = given["quantization"]
        ready = image if given["dtype"] == np.float32 else np.round(image / scale).clip(-32768, 32767).astype(given["dtype"])
        for key, value in runner(**{name: ready}).items():
            found[key].append(value if value.dtype == np.float32 else value * np.float32(ends[key]["quantization"][0]))
    pairs = zip(exact, (np.concatenate(found[key]) for key in keys), strict=True)
    return [float(np.sqrt(np.mean((wanted - value) ** 2)) / wanted.std()) for wanted, value in pairs]


eight = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
sixteen = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
ways = {
    "8 bits": lambda model: by_converter(model, eight),
    "16 and 8 bits": lambda model: by_converter(model, sixteen),
    "16 and 8 bits by ai-edge-quantizer": by_quantizer,
}
for shared in (True, False):
    model = network(shared)
    for name, way in ways.items():
        with contextlib.redirect_stdout(io.StringIO()):
            content = way(model)
        found = errors(model, content)
        text = ", ".join(f"{key} {value:.3f}" for key, value in zip(sorted(scales), found, strict=True))
        print(f"  {'one convolution' if shared else 'three of equal weights'}, {name}: errors over deviations {text}", flush=True)
        first, second, third = sorted(found)
        if name == "16 and 8 bits":
            assert first < 0.02 and second > 0.2 and third > 0.5, "shared biases are right now"
        else:
            assert third < 0.03
PY
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' venv/bin/python measure.py 2> log || { cat log; exit 1; }
