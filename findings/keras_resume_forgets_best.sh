#!/usr/bin/env bash
# What: a training that BackupAndRestore takes up again after a kill has forgotten what its best epoch was. EarlyStopping
#   with restore_best_weights=True ends with the best of the epochs *after* the kill, and ModelCheckpoint with
#   save_best_only=True replaces the best file on disk by the first epoch after it, however much worse: a validation loss of
#   0.70 becomes 3.45. The same program without a kill ends at 0.70.
# Why it surprises: BackupAndRestore is documented as restoring the training state, the callbacks stand in one list, and the
#   kill was survived: the epochs go on with the right number, and the file of the best epoch is there, until the next epoch.
# Who is hurt: trainings on preemptible machines and queues with time limits, just those that use BackupAndRestore: the longer
#   after its best epoch a run is interrupted, the worse what it ships. Patience begins anew as well.
# Instead: a file name with the epoch or the loss in it, ModelCheckpoint(initial_value_threshold=the best so far), and the
#   best one chosen afterwards.
# Source: https://keras.io/api/callbacks/backup_and_restore/ ("the training state is restored").
# Guessed beforehand: EarlyStopping forgets; not that ModelCheckpoint overwrites.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import keras, numpy as np

print("Keras", keras.__version__)
random = np.random.default_rng(1)
images = random.normal(size=(32, 20)).astype("float32")
targets = images[:, :1] + random.normal(0, 2, (32, 1)).astype("float32")  # so noisy that it soon overfits
others = random.normal(size=(64, 20)).astype("float32")
validation = (others, others[:, :1])


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 15:
            raise KeyboardInterrupt


def train(name, *more):
    """One call of the program; returns the validation loss of what it ends with, and of the file of the best epoch."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((20,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    callbacks = [
        keras.callbacks.BackupAndRestore(f"{name}-backup", delete_checkpoint=False),
        keras.callbacks.EarlyStopping(patience=30, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(f"{name}.keras", save_best_only=True),
        *more,
    ]
    try:
        model.fit(images, targets, epochs=25, validation_data=validation, callbacks=callbacks, verbose=0)
    except KeyboardInterrupt:
        model = None
    best = keras.models.load_model(f"{name}.keras").evaluate(*validation, verbose=0)
    return model and model.evaluate(*validation, verbose=0), best


whole = train("whole")
before = train("killed", Kill())
after = train("killed")
print("not interrupted: ends with {:.2f}, best file {:.2f}".format(*whole))
print("killed before epoch 15: best file {:.2f}".format(before[1]))
print("the same program again: ends with {:.2f}, best file {:.2f}".format(*after))
assert abs(before[1] - whole[1]) < 1e-4
assert after[0] > 2 * whole[0], "EarlyStopping remembers now"
assert after[1] > 2 * before[1], "ModelCheckpoint remembers now"
PY
