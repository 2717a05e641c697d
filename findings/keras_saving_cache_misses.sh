#!/usr/bin/env bash
# What: Keras keeps a list of a layer's own attributes so that it is made once for saving and loading; it is stored under one name and
#   looked up under another, so that it is never found. Every layer of a model that is saved or loaded makes another layer to look at
#   instead: 404 for weights of 200 layers that are saved and loaded once, a fifth of the time.
# Why it surprises: the cache is there, and the results are right; only the time tells, which is put down to the disk or to HDF5.
# Who is hurt: whoever saves or loads often: a checkpoint after each short epoch, many small models, deep networks of small layers, services
#   that load on demand, test suites.
# Instead: keep a network that is asked for again; write weights seldom; where it matters, store the attribute under the name that is
#   looked up once, as below (it is private, so try it with each release).
# Source: Keras 3.15.1, src/saving/saving_lib.py, get_attr_skipset.
# Guessed beforehand: no; found while looking for what makes short runs slow.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 numpy==2.4.6 jax==0.10.2
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import time

import keras
from keras.src.backend.common import global_state
from keras.src.layers.layer import Layer
from keras.src.saving import saving_lib

print("Keras", keras.__version__)
inputs = outputs = keras.Input((4,))
for _ in range(200):
    outputs = keras.layers.Dense(4)(outputs)
model = keras.Model(inputs, outputs)

made, start = 0, Layer.__init__


def counted(self, *arguments, **options):
    global made
    made += type(self) is Layer  # not of any kind: a layer to look at
    start(self, *arguments, **options)


def once():
    global made
    made, began = 0, time.perf_counter()
    model.save_weights("w.weights.h5")
    model.load_weights("w.weights.h5")
    return made, time.perf_counter() - began


Layer.__init__ = counted
once()
before, slow = min(once() for _ in range(5))
for kind in ("Layer", "Functional", "Operation"):
    found = saving_lib.get_attr_skipset(kind)
    assert global_state.get_global_attribute(f"saving_attr_skiplist_{kind}") is None
    global_state.set_global_attribute(f"saving_attr_skiplist_{kind}", found)
after, fast = min(once() for _ in range(5))
print(f"weights of 200 layers, saved and loaded: {before} layers made to look at, {1000 * slow:.0f} ms")
print(f"the same with the list stored under the name that is looked up: {after}, {1000 * fast:.0f} ms")
assert before > 400 and after == 0 and fast < slow
PY
