#!/usr/bin/env bash
# What: with gradient_accumulation_steps=n, a Keras optimizer updates its moving average of the weights on every batch,
#   also on the n - 1 of n that change no weight. So the average forgets n times as fast: momentum 0.99 with n = 8 is
#   in effect 0.99**8 = 0.92. With ema_overwrite_frequency the weights are overwritten on every batch of a "due" update
#   instead of once. TensorFlow and JAX alike.
# Why it surprises: accumulation is offered as the same training with less memory, and iterations, the overwrite
#   frequency, clipping and weight decay do count updates.
# Who is hurt: whoever halves the batch and doubles the accumulation steps to fit a GPU: the averaged model that is
#   saved and reported becomes another one, nearer to the last weights.
# Instead: leave ema_overwrite_frequency out and give the n-th root of the wanted momentum (0.99 ** (1 / n)), which
#   comes near it, or keep the average in a callback of one's own.
# Source: keras.optimizers documentation, gradient_accumulation_steps: "model & optimizer variables will not be updated
#   at every step; instead they will be updated every `gradient_accumulation_steps` steps" and "EMA frequency will look
#   at "accumulated" iterations value".
# Guessed beforehand: the average moves with the updates.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import jax, keras, numpy as np

print("keras", keras.__version__, "jax", jax.__version__)
x, y = np.ones((8, 1), "float32"), np.zeros((8, 1), "float32")


def train(updates, steps, momentum=0.9, overwrite=None):
    """Weight and average after so many updates, each of the same `steps` batches."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    optimizer = keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=steps, use_ema=True, ema_momentum=momentum, ema_overwrite_frequency=overwrite
    )
    model.compile(optimizer, "mse")
    for _ in range(updates * (steps or 1)):
        model.train_on_batch(x, y)
    return model.get_weights()[0].item(), np.asarray(optimizer._model_variables_moving_average[0]).item()


weight, average = train(3, None)
print(f"no accumulation:           weight {weight:.4f}, average {average:.4f}")
same_weight, other_average = train(3, 4)
print(f"4 steps:                   weight {same_weight:.4f}, average {other_average:.4f}")
_, repaired = train(3, 4, momentum=0.9 ** (1 / 4))
print(f"4 steps, momentum's root:  average {repaired:.4f}")
overwritten, _ = train(6, None, overwrite=2)
otherwise, _ = train(6, 4, overwrite=2)
print(f"overwritten every 2 updates: weight {overwritten:.4f} without accumulation, {otherwise:.4f} with")
assert abs(weight - same_weight) < 1e-6, "the weights themselves are the same"
assert average - other_average > 0.02, "the average follows the updates now"
assert abs(overwritten - otherwise) > 1e-3, "overwriting counts updates now"
PY
