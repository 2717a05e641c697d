import keras
import pytest

from tlkit.training.memory import Memory, estimate, parts_that_fit, ran_out


def test_an_estimate_by_hand():
    inputs = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.ReLU()(tensor))))
    memory = estimate(model.layers, learning=10, optimizer="adamw", held=1000)
    weights = 3 * 3 * 3 * 4 + 256 * 2 + 2
    assert memory.fixed == 4 * (weights + (2 + 2) * 10) + 1000
    assert memory.per_image == 4 * (256 + 2 + 2 * 256)  # ReLU and Flatten keep nothing
    assert memory.total(5) == memory.fixed + 5 * memory.per_image


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
