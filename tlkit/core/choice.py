"""Which weights a run ships: the candidates, how they fared on images held out, and why this one."""

from dataclasses import asdict, dataclass
from typing import Any

from tlkit.core.results import Metric

CHOICE_FORMAT = 1
KINDS = ("probe", "fine-tuned", "interpolated", "soup")
"""From simple to complex: the head alone, an epoch of a stage, between the two, the mean of several epochs."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One set of weights that might be shipped, as the images held out see it.

    Args:
        name: in words.
        kind: one of `KINDS`.
        accuracy: share right, 0..1; what counts as right is `Choice.measure`.
        log_loss: of the probabilities, with the temperature that suits this candidate best.
        gained: accuracy minus that of the simplest candidate, with its paired interval; None for that one itself.
        lowered: log loss of the simplest candidate minus this one's, likewise: positive is better.
    """

    name: str
    kind: str
    accuracy: Metric
    log_loss: Metric
    gained: Metric | None = None
    lowered: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and why.

    Args:
        candidates: the simplest first.
        chosen: name of the one that ships.
        reason: one sentence.
        held_out: what the images are that decided, in words: "37 validation images".
        measure: what `accuracy` is: "accuracy", "balanced accuracy" or "F1 of each image's labels".
        gained: split -> accuracy of what ships minus that of the simplest candidate, there; measured afterwards.
    """

    candidates: tuple[Candidate, ...]
    chosen: str
    reason: str
    held_out: str
    measure: str = "accuracy"
    gained: dict[str, Metric] | None = None

    @property
    def taken(self) -> Candidate:
        """The one that ships."""
        return next(one for one in self.candidates if one.name == self.chosen)

    def as_json(self) -> dict[str, Any]:
        """JSON-able, the content of choice.json; `from_json` restores it."""
        return {"format": CHOICE_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Choice":
        """Restore what `as_json` gave."""
        own = {name: value for name, value in content.items() if name != "format"}
        candidates = tuple(
            Candidate(**row | {name: row[name] and Metric(**row[name]) for name in _METRICS})
            for row in own["candidates"]
        )
        gained = own["gained"] and {split: Metric(**found) for split, found in own["gained"].items()}
        return cls(**own | {"candidates": candidates, "gained": gained})


_METRICS = ("accuracy", "log_loss", "gained", "lowered")
