"""What a run takes besides extraction and its stages: the audit, the choice of what ships, the answering file, evaluation, report.

Seconds are those of a machine on which `training.minutes.slowness` is 1; `benchmarks/scale.py` has what they were taken from.
"""

from collections.abc import Iterable
from typing import NamedTuple

# Phases of a run
AUDITING, SEARCHING, CHOOSING, EVALUATING = "auditing", "searching", "choosing what ships", "evaluating"


class Cost(NamedTuple):
    """Seconds of a part of a run.

    Args:
        fixed: whatever the images.
        image: more for each image.
        pair: more for each two images, of which the audit compares all.
        answer: more for each image and class.
        label: more for each class.
    """

    fixed: float
    image: float = 0.0
    pair: float = 0.0
    answer: float = 0.0
    label: float = 0.0

    def seconds(self, images: int, classes: int) -> float:
        """Of so many images in so many classes."""
        pairs = images * (images - 1) / 2
        each = self.image * images + self.pair * pairs + self.answer * images * classes
        return self.fixed + each + self.label * classes


COSTS = {
    AUDITING: Cost(3.0, image=4e-4, pair=9e-9, answer=1e-6),
    CHOOSING: Cost(0.3, image=3e-5),
    EVALUATING: Cost(3.5, image=2e-4, answer=1e-6, label=4e-3),
}
"""A row for each part that takes long enough to be waited for."""


class Expected(NamedTuple):
    """A part of a run.

    Args:
        name: of the phase.
        seconds: that it is expected to take.
    """

    name: str
    seconds: float


def parts(names: Iterable[str], images: int, classes: int, slowness: float) -> tuple[Expected, ...]:
    """What these parts of a run are expected to take.

    Args:
        names: among `COSTS`.
        images: of all splits.
        classes: K.
        slowness: seconds of this machine for each second of the table's.
    """
    return tuple(Expected(name, slowness * COSTS[name].seconds(images, classes)) for name in names)
