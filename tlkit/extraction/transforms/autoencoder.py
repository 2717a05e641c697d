"""Autoencoders of features: a narrow layer between an encoder and a decoder (Hinton & Salakhutdinov 2006).

Keras trains them; the learned weights are applied by NumPy, so that a saved one needs nothing else. Noise is added to the
input of the encoder, and the decoder has to restore the input without it (Vincent et al. 2008). The variational one codes by
means and variances regularised towards a standard normal distribution (Kingma & Welling 2014); its codes are the means.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.components import sample

if TYPE_CHECKING:
    import keras

HIDDEN = 512  # units of the layer on either side of the codes
NOISE = 0.2  # standard deviations added to what the encoder reads
HELD, FEWEST = 0.1, 20  # share of the training rows held out for early stopping, and the fewest rows in all
EPOCHS, PATIENCE, RATE = 150, 8, 3e-3
SMALLEST, LARGEST, UPDATES = 16, 256, 8  # sizes of batches, and batches per epoch at least, where the rows allow it
DIVERGENCE = 1e-3  # weight of the divergence from the normal distribution, relative to the squared error of a feature


@dataclass(frozen=True)
class Autoencoder:
    """Features to codes and back: standardise, a tanh layer, codes, a tanh layer, features.

    Args:
        mean: float32 (C,), of the features.
        scale: their standard deviation, one for all, so that features keep their relative weight.
        weights: float32 kernel and bias of the four layers in turn: encoder twice, decoder twice.
        explained: of the variance of the training rows, at most 1.
        held_out: the same, of the training rows held out for early stopping.
        rows: images it was fitted on.
        epochs: passes over them up to the best.
    """

    mean: np.ndarray
    scale: float
    weights: tuple[np.ndarray, ...]
    explained: float
    held_out: float
    rows: int
    epochs: int

    variational: ClassVar[bool] = False
    name: ClassVar[str] = "ae"

    @classmethod
    def fit(cls, rows: Rows, width: int, seed: int) -> Self:
        """Train on nine tenths of the rows; a tenth is held out for early stopping.

        Raises:
            TlkitError: there are fewer than 20 rows, or fewer features than codes.
        """
        features = rows.flat(sample(len(rows), seed))
        if width > features.shape[1] or len(features) < FEWEST:
            raise TlkitError(
                f"--reduce {cls.name}:{width} cannot be fitted on {len(features)} training images with {features.shape[1]} features.",
                f"it takes {FEWEST} images, and at most as many codes as features; pca:N takes fewer images.",
            )
        mean, scale = features.mean(axis=0), max(float(features.std(axis=0).mean()), 1e-6)
        standard = (features - mean) / scale
        order = np.random.default_rng((seed, 5)).permutation(len(standard))
        held, learned = np.split(order, [max(2, round(HELD * len(order)))])
        weights, epochs = _trained(standard[learned], standard[held], width, seed, cls.variational)
        plain = cls(mean, scale, weights, 0.0, 0.0, len(features), epochs)
        return replace(plain, explained=explained(plain, features), held_out=explained(plain, features[held]))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, C) to float32 (n, width)."""
        first, bias, second, shift = self.weights[:4]
        return np.tanh((features - self.mean) / self.scale @ first + bias) @ second + shift

    def restore(self, codes: np.ndarray) -> np.ndarray:
        """float32 (n, width) to float32 (n, C)."""
        first, bias, second, shift = self.weights[4:]
        return (np.tanh(codes @ first + bias) @ second + shift) * self.scale + self.mean

    def describe(self) -> dict[str, Any]:
        """Its description for the sidecar of the table."""
        about = {"explained": self.explained, "held_out": self.held_out, "fitted_on": self.rows, "epochs": self.epochs}
        return {"method": self.name, **about}

    def arrays(self) -> dict[str, np.ndarray]:
        """Its complete state."""
        numbers = {name: np.array(getattr(self, name)) for name in ("scale", "explained", "held_out", "rows", "epochs")}
        return {"mean": self.mean, **numbers, **{f"weights_{i}": each for i, each in enumerate(self.weights)}}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore from `arrays`."""
        weights = tuple(arrays[f"weights_{i}"] for i in range(8))
        scale, whole, held_out = (float(arrays[name]) for name in ("scale", "explained", "held_out"))
        return cls(arrays["mean"], scale, weights, whole, held_out, int(arrays["rows"]), int(arrays["epochs"]))


class VariationalAutoencoder(Autoencoder):
    """The same, with codes regularised towards a standard normal distribution in training."""

    variational: ClassVar[bool] = True
    name: ClassVar[str] = "vae"


def explained(made: Autoencoder, features: np.ndarray) -> float:
    """Share of the variance of features (n, C), around the mean from fitting, that the codes keep, at most 1."""
    rest = ((made.restore(made.apply(features)) - features) ** 2).sum(dtype=np.float64)
    return float(1 - rest / max(((features - made.mean) ** 2).sum(dtype=np.float64), 1e-12))


def _trained(
    learned: np.ndarray, held: np.ndarray, width: int, seed: int, variational: bool
) -> tuple[tuple[np.ndarray, ...], int]:
    """Weights of the best epoch by the error on `held`, and its number."""
    from tlkit.backbones import runtime  # before Keras, so that its backend starts quietly

    import keras  # isort: skip

    runtime.seed_everything(seed)
    layers, model = _network(learned.shape[1], width, seed, variational)
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss="mse")
    stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)
    batch = int(np.clip(len(learned) // UPDATES, SMALLEST, LARGEST))
    told = model.fit(
        learned, learned, validation_data=(held, held), epochs=EPOCHS, batch_size=batch, callbacks=[stop], verbose=0
    )
    weights = [np.asarray(weight) for layer in layers for weight in layer.get_weights()]
    if variational:  # the first half are the means
        weights[2], weights[3] = weights[2][:, :width], weights[3][:width]
    return tuple(weights), int(np.argmin(told.history["val_loss"])) + 1


def _network(
    channels: int, width: int, seed: int, variational: bool
) -> tuple[list["keras.layers.Layer"], "keras.Model"]:
    """The four layers, and the model that trains them."""
    import keras

    dense = keras.layers.Dense
    layers = [
        dense(HIDDEN, "tanh"),
        dense(2 * width if variational else width),
        dense(HIDDEN, "tanh"),
        dense(channels),
    ]
    inputs = keras.Input((channels,))
    codes = layers[1](layers[0](keras.layers.GaussianNoise(NOISE, seed=seed)(inputs)))
    codes = _drawn(width, seed)(codes) if variational else codes
    return layers, keras.Model(inputs, layers[3](layers[2](codes)))


def _drawn(width: int, seed: int) -> "keras.layers.Layer":
    """A layer that draws codes from their means and log variances; it is only used in training and never saved."""
    import keras

    class Drawn(keras.layers.Layer):
        """Means and log variances (B, 2 N) to codes (B, N)."""

        def __init__(self) -> None:
            super().__init__()
            self.random = keras.random.SeedGenerator(seed)

        def call(self, both: Any, training: bool = False) -> Any:
            """Draw while training; the means otherwise."""
            mean, log_variance = both[:, :width], both[:, width:]
            divergence = keras.ops.exp(log_variance) + mean**2 - 1 - log_variance
            self.add_loss(DIVERGENCE * keras.ops.mean(keras.ops.sum(divergence, axis=1)) / 2)
            if not training:
                return mean
            noise = keras.random.normal(keras.ops.shape(mean), seed=self.random)
            return mean + keras.ops.exp(log_variance / 2) * noise

    return Drawn()
