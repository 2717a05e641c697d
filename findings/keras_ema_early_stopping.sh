#!/usr/bin/env bash
# What: an optimizer with use_ema=True and EarlyStopping(restore_best_weights=True) in one fit end with the plain weights:
#   the average is put in place when the last epoch is over, and the callback then puts back what it kept, which are plain
#   weights of an epoch. It happens as well where nothing was stopped early and the last epoch was the best. Bit for bit,
#   the model is the one without use_ema.
# Why it surprises: both are documented as what one ends with, neither warns, and the more so since validation during
#   training is of the plain weights, too: the average that was asked for is never used for anything.
# Who is hurt: recipes that list "EMA 0.999" and "early stopping"; an ablation of EMA that finds a difference of 0.
# Instead: SwapEMAWeights(swap_on_epoch=True) before EarlyStopping in the list of callbacks, so that validation and what is
#   kept are averages (checked below), or finalize_variable_values again after fit.
# Source: https://keras.io/api/optimizers/ (use_ema: "the model weights are overwritten ... at the end of training" by
#   default).
# Guessed beforehand: the callback wins.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import keras, numpy as np

print("Keras", keras.__version__)
rng = np.random.default_rng(0)
images = rng.normal(size=(64, 8)).astype("float32")
targets = images.sum(1, keepdims=True) + rng.normal(0, 0.1, (64, 1)).astype("float32")


def trained(ema, *callbacks):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, use_ema=ema, ema_momentum=0.9), "mse")
    history = model.fit(images[:32], targets[:32], validation_data=(images[32:], targets[32:]), epochs=6,
                        shuffle=False, verbose=0, callbacks=list(callbacks))
    losses = history.history["val_loss"]
    assert len(losses) == 6 and min(losses) == losses[-1]  # nothing stopped, and the last epoch is the best
    return model.get_weights()[0].ravel()


def stopping():
    return keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)


plain, average = trained(False), trained(True)
both = trained(True, stopping())
swapped = trained(True, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), stopping())
for name, weights in {"neither": plain, "use_ema": average, "both": both, "with SwapEMAWeights": swapped}.items():
    print(f"{name:20}", weights[:4].round(4))
assert np.abs(average - plain).max() > 0.1
assert np.array_equal(both, plain), "the average survives now"
print("SwapEMAWeights keeps the average:", bool(np.allclose(swapped, average, atol=1e-5)))
PY
