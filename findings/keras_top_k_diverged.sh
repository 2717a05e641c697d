#!/usr/bin/env bash
# What: on JAX a classifier whose weights became NaN has a top-k accuracy of 1.0 (on TensorFlow of 0.0): a NaN score counts as
#   minus infinity, no other NaN is greater, and so the true class is first. ModelCheckpoint(save_best_only) and
#   EarlyStopping(restore_best_weights) that monitor it keep the diverged epoch as the best, and throw the good one away.
#   On both, scores that are all equal have 1.0 as well, and top-1 accuracy by this metric is not accuracy.
# Why it surprises: the handling of NaN was reported and mended, with a case where the other scores are
#   numbers; training that diverges makes all of them NaN. Accuracy beside it falls to that of the first class.
# Who is hurt: who trains on JAX with many classes and watches val_top5: one step too large, and the "best" file is NaN; who
#   evaluates scores that are rounded (8 bits, float16 that underflows to zero), whose ties all count as right.
# Instead: monitor the loss (NaN is never less), TerminateOnNaN, or count places with ties broken (checked below).
# Source: https://keras.io/api/metrics/accuracy_metrics/ ("how often targets are in the top K predictions"; nothing on ties
#   or NaN), https://github.com/keras-team/keras/issues/19995 (NaN among numbers), tensorflow/tensorflow#13005 (ties).
# Guessed beforehand: 0.0 on both for NaN, and 0.3 for equal scores of ten classes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 tensorflow==2.21.0 numpy==2.4.6
cat > diverge.py <<'PY'
import keras
import numpy as np

backend = keras.backend.backend()
print(f"Keras {keras.__version__} on {backend}")
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
images = rng.normal(size=(512, 20)).astype("float32")
labels = (images @ rng.normal(size=(20, 10))).argmax(axis=1)


def top3(scores):
    metric = keras.metrics.SparseTopKCategoricalAccuracy(k=3)
    metric.update_state(labels, scores)
    return float(metric.result())


def placed(scores):
    """The same with ties broken by the order of classes and NaN last."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")
    return float(np.mean(((order[:, :3] == labels[:, None]) & ~np.isnan(scores).all(1, keepdims=True)).any(axis=1)))


# A rate that is right for four epochs, then far too large, as a wrong schedule or a bad batch may have it.
rate = keras.optimizers.schedules.PiecewiseConstantDecay([48], [0.05, 1e20])
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
model.compile(
    keras.optimizers.SGD(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=3, name="top3")],
)
keep = [
    keras.callbacks.ModelCheckpoint("best.keras", monitor="val_top3", mode="max", save_best_only=True),
    keras.callbacks.EarlyStopping(monitor="val_top3", mode="max", patience=3, restore_best_weights=True),
]
train, held_out = slice(0, 384), slice(384, 512)
history = model.fit(images[train], labels[train], validation_data=(images[held_out], labels[held_out]), epochs=6,
                    batch_size=32, verbose=0, callbacks=keep).history
print("  val_loss", np.round(history["val_loss"], 3))
print("  val_top3", np.round(history["val_top3"], 3))
best = keras.saving.load_model("best.keras").get_weights()
print("  NaN in the best file:", bool(np.isnan(best[0]).any()), "- in the model after fit:", bool(np.isnan(model.get_weights()[0]).any()))

nan, equal = np.full((512, 10), np.nan, "float32"), np.full((512, 10), 0.1, "float32")
print(f"  top 3 of ten classes: all NaN {top3(nan)}, all equal {top3(equal)}; places with ties broken {placed(nan)}, {placed(equal):.3f}")
jax = backend == "jax"
assert np.isnan(history["val_loss"][-1]) and np.isfinite(history["val_loss"][3])
assert history["val_top3"][-1] == (1.0 if jax else 0.0), "a diverged network is counted in another way now"
assert np.isnan(best[0]).any() == jax and np.isnan(model.get_weights()[0]).any() == jax
assert top3(equal) == 1.0 and placed(nan) == 0.0 and 0.2 < placed(equal) < 0.4
PY
for backend in tensorflow jax; do KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python diverge.py 2> errors.txt || { cat errors.txt; exit 1; }; done
