import keras
import pytest

from tlkit.base.machine import ran_out
from tlkit.training.costs import PROCESS_BYTES, Memory, estimate, parts_that_fit


def test_an_estimate_by_hand():
    inputs = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="below")(inputs)
    tensor = keras.layers.ReLU()(tensor)
    side = keras.layers.Conv2D(4, 1, use_bias=False)(tensor)
    side = keras.layers.BatchNormalization()(side)  # only goes into a sum: not kept
    tensor = keras.layers.Flatten()(keras.layers.Add()([tensor, side]))
    model = keras.Model(inputs, keras.layers.Dense(2)(tensor))
    memory = estimate(model, model.layers[2:], learning=10, optimizer="adamw", held=1000)
    weights = 4 * 4 + 4 * 4 + 256 * 2 + 2
    assert memory.fixed == 4 * (weights + (3 + 2) * 10) + 1000 + PROCESS_BYTES
    assert memory.per_image == 4 * (256 + 256 + 2 + 256)  # convolution, sum, logits; and the largest once more
    assert memory.total(5) == memory.fixed + 5 * memory.per_image


def test_attention_and_gelu_keep_more_than_they_make():
    inputs = keras.Input((5, 8))
    normed = keras.layers.LayerNormalization()(inputs)
    tensor = keras.layers.MultiHeadAttention(2, 3)(normed, normed)
    tensor = keras.layers.Dense(7, activation="gelu")(keras.layers.Add()([inputs, tensor]))
    model = keras.Model(inputs, tensor)
    memory = estimate(model, model.layers[1:], learning=0, optimizer="sgd")
    normed, attention, added, dense = 2 * 5 * 8, 5 * 8 + 5 * (5 * 6) + 2 * 5 * 5, 5 * 8, 3 * 5 * 7
    assert memory.per_image == 4 * (normed + attention + added + dense + 5 * 8)  # and the largest output once more


@pytest.mark.parametrize(
    ("most", "parts"),
    [(None, 1), (1000 + 32 * 100, 1), (1000 + 31 * 100, 2), (1000 + 5 * 100, 8), (10, 32)],
)
def test_parts_are_doubled_until_they_fit(most, parts):
    assert parts_that_fit(Memory(fixed=1000, per_image=100), rows=32, parts=1, most=most) == parts


def test_every_backend_runs_out_in_its_own_words():
    class XlaRuntimeError(RuntimeError):
        pass

    for error in (
        MemoryError(),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 42 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ):
        assert ran_out(error)
    assert not ran_out(ValueError("shapes do not match"))
    errors = pytest.importorskip("tensorflow").errors
    assert ran_out(errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert not ran_out(errors.InvalidArgumentError(None, None, "no"))
