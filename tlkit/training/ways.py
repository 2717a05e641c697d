"""The ways to come by what the head and top stages read: views stored or made afresh, the frozen part stored or not.

Each has its bytes on disk and its seconds; the cheapest that the disk has room for is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlkit.base.machine import available_memory, bytes_text
from tlkit.options.commands import FinetuneConfig
from tlkit.training.plan import Anatomy, Decision, Pace, duration, planned_epochs

HEAD_EPOCHS = 30  # of a head that is not solved
WORTH_COMPUTING_AGAIN = 10.0  # seconds that it must save, for each thing that is not stored
VIEWS_MOST = 8
VIEWED_IMAGES = 12_000  # views are added until about this many images go through the network


def planned_views(options: FinetuneConfig, train: int) -> int:
    """How many stored views of each training image; 0 for fresh ones."""
    if options.augment == "none":
        return 1
    if options.views is not None:
        return options.views
    return int(np.clip(VIEWED_IMAGES // max(train, 1), 1, VIEWS_MOST))


def is_convex(options: FinetuneConfig) -> bool:
    """Whether the head's problem has one solution that L-BFGS finds: linear, cross-entropy, no dropout."""
    return options.head == "linear" and options.loss == "crossentropy" and not options.dropout


def stage_epochs(options: FinetuneConfig, stage: str, train: int) -> int:
    """Epochs of a stage at most, over so many training images; 0 where it is not among those asked for."""
    if stage not in options.stages:
        return 0
    planned = HEAD_EPOCHS if stage == "head" else planned_epochs(train, options.batch_size * options.accumulate)
    return int(nth(options.epochs, options.stages.index(stage), planned))


def nth(values: Sequence[float] | None, number: int, planned: float) -> float:
    """The value for stage `number`: planned, the only one, or its own."""
    if values is None:
        return planned
    return values[0] if len(values) == 1 else values[number]


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        views: stored views of each training image; 0 for fresh ones every epoch.
        stored: which of `features` and `cut` are kept on disk; the rest is computed every epoch.
        bytes: on disk.
        seconds: of extraction and of both stages, as far as they depend on the way.
    """

    views: int
    stored: tuple[str, ...]
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Ways:
    """What there is to choose from.

    Args:
        anatomy: of the classifier; its options say what is asked for.
        train: training images.
        total: images of all splits.
        budget: bytes that the store may hold.
        budget_reason: why so many.
    """

    anatomy: Anatomy
    train: int
    total: int
    budget: int
    budget_reason: str

    @property
    def _free(self) -> bool:
        """Whether the number of views is left to the plan."""
        return self.anatomy.options.views is None and self.anatomy.options.augment != "none"

    def ranked(self, pace: Pace) -> list[Way]:
        """The ways that the options and the disk allow, the cheapest first; the smallest where none fits."""
        ways = [self._priced(self._shrunk(way), pace) for way in self._possible()]
        fitting = (way for way in ways if way.bytes <= self.budget)
        return sorted(fitting, key=self._rank) or [min(ways, key=lambda way: way.bytes)]

    def _rank(self, way: Way) -> float:
        """Seconds; computing anything twice has to save some to be worth it, for the next run finds what is stored."""
        again = (way.views == 0) + len(self.anatomy.inputs) - len(way.stored)
        return way.seconds + WORTH_COMPUTING_AGAIN * again

    def _possible(self) -> list[Way]:
        names, options = self.anatomy.inputs, self.anatomy.options
        least = 0 if self.anatomy.head_reads == "grid" else 1  # pooled features take next to nothing
        views = [planned_views(options, self.train)]
        # A convex head is solved on a fixed set of views; fresh ones are for those who ask for them.
        if self._free and not is_convex(options):
            views.append(0)
        return [
            Way(number, names[:kept])
            for kept in range(len(names), least - 1, -1)
            for number in (views if kept else [0])
        ]

    def _shrunk(self, way: Way) -> Way:
        """With as many views as the disk can hold, unless their number was asked for."""
        while self._free and way.views > 1 and self.bytes(way) > self.budget:
            way = replace(way, views=way.views - 1)
        return replace(way, bytes=self.bytes(way))

    def bytes(self, way: Way) -> int:
        """On disk."""
        return sum(self.anatomy.row_bytes(name) for name in way.stored) * self._images(way)

    def _images(self, way: Way) -> int:
        return self.total + max(0, way.views - 1) * self.train

    def extraction_seconds(self, way: Way, pace: Pace) -> float:
        """Of computing what is stored, from an empty store."""
        return pace.forward * self._images(way) if way.stored else 0.0

    def _priced(self, way: Way, pace: Pace) -> Way:
        """Seconds of extraction, and of what the head and top stages compute and read."""
        options = self.anatomy.options
        seconds = self.extraction_seconds(way, pace) + way.bytes * pace.disk
        seconds += stage_epochs(options, "top", self.train) * pace.step * self.train
        head = 0 if is_convex(options) and way.views else stage_epochs(options, "head", self.train)
        for name, forward, epochs in (
            ("features", pace.forward, head),
            ("cut", pace.prefix, stage_epochs(options, "top", self.train)),
        ):
            if name not in way.stored:
                seconds += epochs * forward * self.total
            elif way.views == 0:
                seconds += epochs * forward * self.train
            elif way.bytes > (available_memory() or 2 * way.bytes) // 2:  # too much to stay in memory between epochs
                seconds += epochs * self.train * self.anatomy.row_bytes(name) * pace.disk
        return replace(way, seconds=seconds)

    def decisions(self, ways: list[Way], pace: Pace) -> tuple[Decision, ...]:
        """The chosen way, the first, against the others; and what it takes on disk."""
        chosen, *others = ways
        how = "measured" if pace.measured else "estimated"
        views = f"about {duration(chosen.seconds)} in all ({how})"
        views += "".join(f"; {self._in_words(way)}: {duration(way.seconds)}" for way in others)
        most = f"the store may hold {bytes_text(self.budget)} ({self.budget_reason})"
        return (
            Decision("views", self._in_words(chosen), views),
            Decision("store", f"up to {bytes_text(chosen.bytes)}", most),
        )

    def _in_words(self, way: Way) -> str:
        text = f"{way.views} stored view{'s' * (way.views > 1)} of each training image"
        if self._free and way.views == planned_views(self.anatomy.options, self.train):
            text += f", as many as bring {self.train:,} near {VIEWED_IMAGES:,}"
        text = text if way.views else "fresh views every epoch"
        missing = {"cut": f"the output of {self.anatomy.cut}", "features": "the grid"}
        computed = [missing[name] for name in self.anatomy.inputs if name not in way.stored]
        return text + (f", {' and '.join(computed)} computed every epoch" if computed else "")
