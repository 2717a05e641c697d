#!/usr/bin/env bash
# What: with Keras on JAX (or NumPy) `model.get_config()`, `to_json`, `save` and `load_model` import TensorFlow where it is installed:
#   training and predicting on JAX never do, the first checkpoint does.
# Why it surprises: the backend is chosen so that TensorFlow is not needed, and everything up to the first save agrees. It comes from one
#   look whether a value in the configuration is a `tf.TensorShape`.
# Who is hurt: services and notebooks on JAX: seconds and hundreds of megabytes at the first checkpoint, TensorFlow's messages in their
#   logs, and where TensorFlow sees the GPU a second library that wants its memory beside JAX.
# Instead: keep TensorFlow out of an environment that computes on JAX; or keep weights alone (`save_weights`), which do not import it.
# Source: Keras 3.15.1, src/saving/serialization_lib.py, serialize_keras_object.
# Guessed beforehand: no; seen where a process that had to stay small did not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 numpy==2.4.6 jax==0.10.2 tensorflow-cpu==2.21.0
KERAS_BACKEND=jax venv/bin/python - 2>/dev/null <<'PY'
import resource
import sys
import time

import keras
import numpy as np

inputs = keras.Input((4,))
model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
model.compile("adam", "mse")


def told(step, work):
    began = time.perf_counter()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{step:13} {time.perf_counter() - began:5.2f} s, peak {peak} MB, TensorFlow loaded: {'tensorflow' in sys.modules}")
    return "tensorflow" in sys.modules


print("Keras", keras.__version__, "backend", keras.backend.backend())
assert not told("fit", lambda: model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0))
assert not told("predict", lambda: model.predict(np.ones((8, 4)), verbose=0))
assert not told("save_weights", lambda: model.save_weights("w.weights.h5"))
assert told("save", lambda: model.save("m.keras"))
PY
