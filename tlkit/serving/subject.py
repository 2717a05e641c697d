"""What the server must know of a classifier: a few functions. No Keras here, so that it can answer before Keras is up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.core.input_contract import InputContract


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A classifier that is ready to answer.

    Args:
        name: what the page calls it; no path.
        facts: what `GET /v1/model` tells beside the limits: `backbone`, `threshold` and the like.
        classes: their names.
        contract: what pixels to make of a file.
        batch_size: most images in one call of `infer`.
        infer: images uint8 (B, H, W, 3) -> float32 (B, N), a row for each; called from one thread at a time.
        judge: rows float32 (B, N) and how many classes to list -> for each image `predicted`, `probability`,
            `abstained`, `classes` and what else is known.
        explain: an image's bytes, its pixels uint8 (H, W, 3), its row and a method -> `explanation`; called from one
            thread, which is not that of `infer`. None where it cannot.
        close: ends what it does beside.
    """

    name: str
    facts: dict[str, Any]
    classes: Sequence[str]
    contract: InputContract
    batch_size: int
    infer: Callable[[np.ndarray], np.ndarray]
    judge: Callable[[np.ndarray, int], list[dict[str, Any]]]
    explain: Callable[[bytes, np.ndarray, np.ndarray, str], dict[str, Any]] | None = None
    close: Callable[[], None] = lambda: None
