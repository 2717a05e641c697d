#!/usr/bin/env bash
# What: a BatchNormalization inside TimeDistributed (so every CNN that learns there) normalises each time step by statistics
#   of its own in training: whatever changes from one frame to the next over all clips alike, such as a brightness that
#   rises, is wiped out while training and is there at inference. And each step of training moves the moving statistics as
#   many times as there are frames: with 16 frames a momentum of 0.99 forgets like 0.85, and the last frames count most.
# Why it surprises: TimeDistributed is documented as the same layer applied to every slice, and older versions folded time
#   into the batch, where a layer sees all frames together; nothing warns, and the losses of training look well.
# Who is hurt: video classifiers that fine-tune a pretrained CNN frame by frame: validation is far below training, for the
#   network was never trained on what it is given then; padded frames move the statistics as well.
# Instead: fold time into the batch (ops.reshape to (B * T, H, W, C), the CNN, and back), or keep every BatchNormalization
#   frozen (layer.trainable = False), as one should anyway.
# Source: https://keras.io/api/layers/recurrent_layers/time_distributed/ ("apply a layer to every temporal slice of an input").
# Guessed beforehand: that the statistics move T times a step; not that a trend over time vanishes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import keras, numpy as np
from keras import layers, ops

print("Keras", keras.__version__)
FRAMES, CHANNELS = 16, 4
clips = np.random.default_rng(0).normal(10, 1, (8, FRAMES, CHANNELS)).astype("float32")
rising = clips + 5 * np.arange(FRAMES, dtype="float32")[None, :, None]  # every clip becomes brighter


def model(folded):
    norm, image = layers.BatchNormalization(momentum=0.99), keras.Input((FRAMES, CHANNELS))
    if folded:
        found = ops.reshape(norm(ops.reshape(image, (-1, CHANNELS))), (-1, FRAMES, CHANNELS))
    else:
        found = layers.TimeDistributed(norm)(image)
    return keras.Model(image, found), norm


rise, moved = {}, {}
for name, folded in (("TimeDistributed", False), ("folded into the batch", True)):
    network, norm = model(folded)
    found = keras.ops.convert_to_numpy(network(rising, training=True)).mean((0, 2))
    rise[name] = float(found[-1] - found[0])
    network, norm = model(folded)
    network.compile(keras.optimizers.SGD(1e-12), "mse")
    network.fit(clips, np.zeros_like(clips), batch_size=8, epochs=1, verbose=0)  # one step
    moved[name] = float(keras.ops.convert_to_numpy(norm.moving_mean).mean()) / 10
    print(f"{name}: from the first frame to the last {rise[name]:+.2f} deviations in training; "
          f"one step brings the moving mean {moved[name]:.1%} of the way")
assert abs(rise["TimeDistributed"]) < 1e-3 < 3 < rise["folded into the batch"], "time steps share statistics now"
assert abs(moved["TimeDistributed"] - (1 - 0.99**FRAMES)) < 0.01 and abs(moved["folded into the batch"] - 0.01) < 0.002
PY
