"""The plan of a run: which stages, what learns in each, at which rate, for how long, and what it will cost.

Made before anything is trained, printed, and kept with the run. Every choice that was left to tlkit
comes with its reason.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tlkit.core.cache_budget import bytes_text


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Args:
        name: `head`, `top` or `all`.
        method: `lbfgs` (convex, solved) or `gradient`.
        source: where the stage finds the images: `features` (stored output of the backbone), `cut` (stored output
            of the frozen prefix) or `pixels`, through what is frozen.
        blocks: how many blocks of the backbone learn: the last ones, but for those `skipped`.
        skipped: how many blocks after those that learn stay frozen.
        cut: the layer after which the stage trains, "" for the backbone's last or the images themselves.
        views: stored views of each training image; 0 makes fresh ones every epoch.
        epochs: at most.
        learning_rate: peak.
        parameters: that may change.
        stored_bytes: that the store will hold for it.
        parts: batches that an update is taken in.
        memory_bytes: expected to be needed while it trains, 0 where it does not.
        mix: how its training rows are mixed: `none`, `mixup` or `cutmix`.
        centralize: whether the gradients of filters are centralized.
        seconds: expected, extraction not included.
        reason: why so.
    """

    name: str
    method: str
    source: str
    blocks: int
    cut: str
    views: int
    epochs: int
    learning_rate: float
    parameters: int
    stored_bytes: int
    seconds: float
    reason: str
    parts: int = 1
    memory_bytes: int = 0
    skipped: int = 0
    mix: str = "none"
    centralize: bool = False

    @property
    def learns(self) -> str:
        """What learns, in words."""
        if self.name == "head":
            return "the head"
        if self.name == "all":
            return "everything"
        if self.skipped:
            return f"the head and {self.blocks} block{'s' * (self.blocks > 1)}, not the last {self.skipped}"
        return f"the head and the last {self.blocks} block{'s' * (self.blocks > 1)}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages, and what is said of the run as a whole.

    Args:
        stages: in order.
        extraction_seconds: expected, before the first stage.
        notes: what was chosen for all stages, against which alternatives, and why.
        augment: how far views go, "" where a plan does not say.
        unfreeze: which third learns in the top stage, "" where a plan does not say.
    """

    stages: tuple[Stage, ...]
    extraction_seconds: float
    notes: tuple[str, ...] = ()
    augment: str = ""
    unfreeze: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON-able; `Plan.from_json` restores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Restore what `as_json` gave."""
        stages = tuple(Stage(**stage) for stage in content["stages"])
        return cls(**content | {"stages": stages, "notes": tuple(content.get("notes", ()))})

    def text(self) -> str:
        """The plan as lines for a reader."""
        extraction = f"about {duration(self.extraction_seconds)}, less for what the store already holds"
        lines = [
            "plan:",
            f"  extract  {extraction if self.extraction_seconds else 'nothing: the disk has no room for it'}",
            *(f"  {note}" for note in self.notes),
        ]
        for stage in self.stages:
            how = (
                "solved by L-BFGS"
                if stage.method == "lbfgs"
                else f"up to {stage.epochs} epochs, peak rate {stage.learning_rate:g}"
            )
            lines.append(
                f"  {stage.name:<8} {stage.learns} ({stage.parameters:,} parameters), {how}, about {duration(stage.seconds)}"
            )
            memory = f"; about {bytes_text(stage.memory_bytes)} of memory" if stage.memory_bytes else ""
            lines.append(f"           {stage.reason}{memory}")
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
