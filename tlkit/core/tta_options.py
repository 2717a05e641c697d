"""The option of test-time augmentation, for the commands that judge images."""

from dataclasses import dataclass

from tlkit.core.options import Options, option

MOST_VIEWS = 12


@dataclass(frozen=True, kw_only=True)
class TtaOptions(Options):
    """How many views of an image are judged."""

    tta: int = option(
        1,
        "Judge every image in so many views and average the probabilities (test-time augmentation): 2 adds its mirror "
        "image, more add light crops; takes so many times as long.",
        low=1,
        high=MOST_VIEWS,
        group="Inference",
    )
