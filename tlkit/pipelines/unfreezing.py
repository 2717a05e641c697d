"""`--unfreeze auto`: which third of the network learns, settled before the plan is made."""

from dataclasses import replace

import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.core.config import FinetuneConfig
from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest
from tlkit.core.splits import Splits
from tlkit.data.images import batches
from tlkit.training.relative import relative_gradients, sample


def settled(
    config: FinetuneConfig, backbone: Backbone, contract: InputContract, manifest: Manifest, splits: Splits
) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """The options with a third that the planner knows, and what to say about it."""
    if config.unfreeze != "auto":
        return config, ()
    rows = splits.indices("train")
    rows = rows[sample(manifest.labels[rows], np.random.default_rng((config.seed, 3)))]
    images = np.zeros((len(rows), contract.height, contract.width, 3), np.uint8)
    for batch in batches([manifest.file(row) for row in rows], contract, 32):
        images[batch.indices] = batch.images  # what cannot be read is found, and told, by extraction
    found = relative_gradients(backbone, images, manifest.labels[rows])
    best = max(found, key=lambda third: found[third])
    numbers = ", ".join(f"{third} {value:.2g}" for third, value in found.items())
    note = f"unfreeze {best}: its gradients are the largest against its weights, on {len(rows)} images ({numbers})"
    return replace(config, unfreeze=best), (note,)
