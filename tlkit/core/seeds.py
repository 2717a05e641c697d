"""Random initial weights that a seed reproduces, without touching anybody else's random numbers."""

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block, Keras initialisers and dropout layers draw their own seeds from `seed`.

    Keras gives every initialiser without a seed one from Python's `random` when the layer is made,
    and draws from it without state. So this is all that building a model depends on, and the state
    of `random` outside the block stays what it was.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
