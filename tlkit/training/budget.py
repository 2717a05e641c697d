"""`--minutes`: a promise about the wall clock, and how training keeps it.

Everything from the start of the process to the report counts. What comes after training is set aside beforehand; the
time that is left buys epochs. Their number is settled again after every epoch, from how long epochs took, and the
schedule of the learning rate ends where the time does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

EPOCHS_FEWEST = 3  # fewer begin a schedule without room to end it, and leave the network worse than they found it
WORTH_MORE = 1.1  # times as many epochs; fewer more are noise
SLACK = 0.02  # of the promise, that an epoch may end late
COMPILING = 4.0  # seconds of a machine like this one: the training step, for the first epoch
TRACING = 1.5  # seconds likewise: a network that is read, for the first batch
FINISHING = 4.0  # seconds likewise: calibration, evaluation, saving, the report
FINISHING_IMAGE = 1e-3  # seconds likewise, for each image
PASSES_BACK = 2.0  # what a training step takes more than the pass through the network in it
CANDIDATES = 8  # passes over the validation images for the choice of what ships
PLAIN_WORK = 0.055  # seconds that `slowness` takes on a machine like this one


def slowness() -> float:
    """Seconds of this machine, now, for each second of the one that this file's constants are from; 0.5 at least."""

    def work() -> float:
        started = time.perf_counter()
        sum(number * number for number in range(1_000_000))
        return time.perf_counter() - started

    return max(0.5, median(work() for _ in range(3)) / PLAIN_WORK)


@dataclass
class Budget:
    """How much of the promise is left.

    Args:
        minutes: promised.
        began: when, by `clock`.
        clock: seconds, going on evenly.
        after: seconds to keep for what follows training.
        compiling: seconds that the first epoch takes longer than the others.
    """

    minutes: float
    began: float
    clock: Callable[[], float] = time.monotonic
    after: float = 0.0
    compiling: float = 0.0
    _marks: list[float] = field(default_factory=list)
    _most: int = 0
    _expected: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds for training, from now on."""
        return 60 * self.minutes - self.spent - self.after

    def set_aside(self, *, step: float, forward: float, val: int, total: int, pace: float) -> None:
        """Keep what the end of a run takes.

        Args:
            step: seconds of a training step, for each image.
            forward: seconds of a pass through the whole network, for each image.
            val: images that what ships is chosen by.
            total: images.
            pace: this machine's `slowness`.
        """
        self.compiling = COMPILING * pace
        passes = step / (1 + PASSES_BACK) * (CANDIDATES * val + total) + forward * total
        self.after = passes + pace * (FINISHING + FINISHING_IMAGE * total + 3 * TRACING)

    def begin(self, epoch_seconds: float, most: int) -> int:
        """Epochs of a stage that fit into what is left now, 0 where hardly any does.

        Args:
            epoch_seconds: expected of each.
            most: epochs that the stage has use for.
        """
        self._marks, self._most, self._expected = [self.clock()], most, epoch_seconds
        fitting = self._fitting(self.left - self.compiling, epoch_seconds)
        return fitting if fitting >= EPOCHS_FEWEST else 0

    def again(self, done: int, planned: int) -> int:
        """Epochs in all, by how long those since `begin` took; called after each.

        The first one compiles, and says only whether there is hardly time for more. After the last one the rate is zero,
        and further epochs would change nothing, whatever time has turned up.

        Args:
            done: epochs so far, those before an interruption included.
            planned: epochs in all, as last settled.
        """
        self._marks.append(self.clock())
        took = [end - start for start, end in zip(self._marks, self._marks[1:], strict=False)]
        if done >= planned:
            return planned
        if len(took) > 1:
            fits = min(self._most, done + self._fitting(self.left, median(took[1:])))
            return planned if planned < fits <= WORTH_MORE * planned else fits
        hardly = self._fitting(self.left, max(self._expected, took[0] - self.compiling))
        return min(planned, done + hardly) if hardly <= 2 else planned

    def _fitting(self, seconds: float, epoch_seconds: float) -> int:
        late = SLACK * 60 * self.minutes if seconds > 0 else 0.0
        return max(0, min(self._most, int((seconds + late) / max(epoch_seconds, 1e-6))))

    def told(self) -> str:
        """What was promised and what it took, in a sentence."""
        return f"minutes: {self.minutes:g} promised, {self.spent / 60:.2f} taken"
