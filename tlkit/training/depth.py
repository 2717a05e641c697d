"""How deep and how long to train where that is left to tlkit; docs/log.md has what both were measured against.

Deep is worth it where it can be paid for: the last blocks that hold 95 % of the parameters of MobileNetV2-0.35, 38 % of its
operations, did at least as well on the stored output at the cut as three blocks more, in half the time.
"""

from dataclasses import replace

import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.core.config import FinetuneConfig
from tlkit.training.cost import TRAINING_PASSES, operations, parameters, seconds_per_operation

DEEP, SHALLOW = 0.95, 1 / 3  # shares of the backbone's parameters that learn in the top stage, at least
LONG = 900.0  # seconds that training deep may take by estimate before it is left to those who ask for it

# A stage needs some hundred updates to make good what its first ones break: of 168 updates at a rate of 3e-4 the probe
# was lost, of 500 it was left behind. BiT takes 500 for small sets as well (Kolesnikov et al. 2020).
UPDATES = 600
EPOCHS = (10, 40)  # fewest and most that so many updates may become
USEFUL = 2  # times as many epochs as planned are the most that a stage has use for


def planned_blocks(backbone: Backbone, share: float = SHALLOW) -> int:
    """The fewest last blocks that hold a share of the parameters; the first block is never among them."""
    sizes = [parameters(backbone.layers_of(number, number + 1)) for number in range(len(backbone.blocks))]
    held = np.cumsum(sizes[::-1])
    return min(int(np.searchsorted(held, share * held[-1])) + 1, max(1, len(sizes) - 1))


def planned_epochs(images: int, batch: int) -> int:
    """Epochs over so many images in updates of `batch` that make about `UPDATES` of them."""
    updates = -(-max(images, 1) // batch)
    return int(np.clip(-(-UPDATES // updates), *EPOCHS))


def useful_epochs(images: int, batch: int) -> int:
    """Epochs, like `planned_epochs`, beyond which a stage is not worth its time: with 25 for 10 flowers gained nothing."""
    return USEFUL * planned_epochs(images, batch)


def settle_depth(options: FinetuneConfig, backbone: Backbone, train: int) -> tuple[FinetuneConfig, str]:
    """How many last blocks learn in the top stage, where that is left open, and why.

    Args:
        options: what was asked for.
        backbone: the network.
        train: training images.

    Returns:
        The options with `blocks`, and the reason in words; the options as they are and "" where nothing is open.
    """
    if options.blocks or options.unfreeze != "last" or "top" not in options.stages:
        return options, ""
    deep, shallow = planned_blocks(backbone, DEEP), planned_blocks(backbone)
    count = len(backbone.blocks)
    epochs = planned_epochs(train, options.batch_size * options.accumulate)
    seconds = TRAINING_PASSES * operations(backbone.layers_of(count - deep, count)) * seconds_per_operation()
    seconds *= train * epochs
    if deep == shallow or seconds <= LONG:
        return replace(options, blocks=deep), f"the fewest that hold {DEEP:.0%} of the parameters"
    why = f"the fewest that hold a third of the parameters; {deep} blocks, {DEEP:.0%} of them, would train for about"
    return replace(options, blocks=shallow), f"{why} {seconds / 60:.0f} min here: --blocks {deep} does"
