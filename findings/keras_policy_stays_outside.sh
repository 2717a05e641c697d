#!/usr/bin/env bash
# What: `layer.dtype_policy = "mixed_bfloat16"` on a layer that exists already (of a model that was loaded, say) does not reach the layers
#   inside of it: MultiHeadAttention, LSTM, GRU and Bidirectional then say that they compute in bfloat16, and the
#   products with their weights (of GRU one of two) are still those of float32 numbers. Made under the policy they multiply in bfloat16.
# Why it surprises: the setter is there, plain layers obey it, and `compute_dtype` answers "bfloat16"; no warning, right results.
# Who is hurt: whoever loads a float32 model and gives its layers another policy for speed or memory: a transformer or a recurrent network
#   then keeps most of its work in float32, casts besides, and mixed precision is said not to pay.
# Instead: build the model under the policy and load its weights, or give the policy to every layer inside as well:
#   `for inner in layer._flatten_layers(): inner.dtype_policy = policy` (private; look at the products, as below).
# Source: Keras 3.15.1, Layer.dtype_policy and the mixed precision guide, which says that a layer computes in its policy's compute dtype.
# Guessed beforehand: for MultiHeadAttention, from a step that gained nothing; not recurrent layers; of TimeDistributed it is not so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 numpy==2.4.6 jax==0.10.2
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import re

import jax
import keras
import numpy as np

print("Keras", keras.__version__, "JAX", jax.__version__)
L, rows = keras.layers, np.ones((2, 4, 8), "float32")
KINDS = {
    "Dense": lambda policy: L.Dense(8, dtype=policy),
    "MultiHeadAttention": lambda policy: L.MultiHeadAttention(2, 4, dtype=policy),
    "LSTM": lambda policy: L.LSTM(8, dtype=policy),
    "GRU": lambda policy: L.GRU(8, dtype=policy),
    "Bidirectional": lambda policy: L.Bidirectional(L.LSTM(8, dtype=policy), dtype=policy),
    "TimeDistributed": lambda policy: L.TimeDistributed(L.Dense(8, dtype=policy), dtype=policy),
}


def products(layer):
    """The types in which a layer multiplies matrices."""
    two = isinstance(layer, L.MultiHeadAttention)
    call = (lambda x: layer(x, x)) if two else layer
    text = str(jax.make_jaxpr(call)(rows))
    return sorted(re.findall(r":(f32|bf16)\[[\d,]*\] = dot_general", text))


for name, make in KINDS.items():
    under, later = make("mixed_bfloat16"), make("float32")
    for layer in (under, later):
        layer(rows, rows) if name == "MultiHeadAttention" else layer(rows)
    later.dtype_policy = "mixed_bfloat16"
    made, changed = products(under), products(later)
    print(f"{name:19} says {later.compute_dtype}; products: made so {made}, changed later {changed}")
    assert later.compute_dtype == "bfloat16"
    assert "bf16" in made
    assert changed == made if name in ("Dense", "TimeDistributed") else changed.count("f32") > made.count("f32")
PY
