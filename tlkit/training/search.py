"""`--search`: which settings of the stage after the head are tried, and how a trial is scored.

What was asked for stays: a learning rate, a number of blocks or an augmentation that was given is not searched. The
planned settings are the first trial, so the search never ends below them on validation.
"""

from dataclasses import dataclass, replace
from typing import Any

from tlkit.core.config import FinetuneConfig
from tlkit.training.checkpoint import State
from tlkit.training.plan import Plan, Stage

RATE_REACH = 8.0  # times the planned rate, and of it
AUGMENTS = ("light", "medium", "strong")
RANGES: dict[str, tuple[float, float, bool]] = {  # least, most, whether on a logarithmic scale
    "layer_decay": (0.5, 1.0, False),
    "weight_decay": (1e-6, 0.3, True),
    "label_smoothing": (0.0, 0.2, False),
}


@dataclass(frozen=True)
class Space:
    """What may be tried.

    Args:
        defaults: name -> planned value, of what is searched.
        ranges: name -> (least, most, logarithmic).
        choices: name -> values.
    """

    defaults: dict[str, Any]
    ranges: dict[str, tuple[float, float, bool]]
    choices: dict[str, tuple[Any, ...]]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values of an Optuna trial."""
        found = {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in self.ranges.items()}
        return found | {name: trial.suggest_categorical(name, values) for name, values in self.choices.items()}


def space(config: FinetuneConfig, plan: Plan, blocks: int, multi: bool = False) -> Space:
    """What may be tried around a plan.

    Args:
        config: the options; `augment` and `unfreeze` settled.
        plan: its last stage is the one that is searched.
        blocks: of the backbone.
        multi: whether an image may have several labels.
    """
    stage = plan.stages[-1]
    planned = {
        "layer_decay": config.layer_decay,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.smoothing(multi),
    }
    ranges = {name: limits for name, limits in RANGES.items() if limits[0] <= planned[name] <= limits[1]}
    if config.loss != "crossentropy":
        ranges.pop("label_smoothing", None)
    defaults: dict[str, Any] = {name: planned[name] for name in ranges}
    if config.learning_rate is None:
        ranges["learning_rate"] = stage.learning_rate / RATE_REACH, stage.learning_rate * RATE_REACH, True
        defaults["learning_rate"] = stage.learning_rate
    choices: dict[str, tuple[Any, ...]] = {}
    if stage.name == "top" and config.blocks is None and config.unfreeze == "last":
        depths = {max(1, stage.blocks // 2), stage.blocks, min(blocks - 1, 2 * stage.blocks)}
        choices["blocks"], defaults["blocks"] = tuple(sorted(depths)), stage.blocks
    return Space(defaults, ranges, choices)


def with_augment(found: Space, planned: str) -> Space:
    """With the strength of the augmentation, where it was left to the plan, among what is tried."""
    names = AUGMENTS if planned in AUGMENTS else (planned, *AUGMENTS)
    return replace(found, defaults=found.defaults | {"augment": planned}, choices=found.choices | {"augment": names})


def of_the_plan(config: FinetuneConfig, values: dict[str, Any]) -> FinetuneConfig:
    """The options whose change makes another plan: what is frozen, and what a view is."""
    return replace(config, **{name: values[name] for name in ("blocks", "augment") if name in values})


def of_the_stage(config: FinetuneConfig, values: dict[str, Any]) -> FinetuneConfig:
    """The options that only the stage reads."""
    return replace(config, **{name: values[name] for name in RANGES if name in values})


def with_rate(stage: Stage, values: dict[str, Any]) -> Stage:
    """The stage at the rate that is tried."""
    return replace(stage, learning_rate=values.get("learning_rate", stage.learning_rate))


def worth(score: tuple[float, float], images: int) -> float:
    """A number that orders like (accuracy, minus loss): a smaller loss counts for less than one image."""
    accuracy, minus_loss = score
    return accuracy + 1 / (1 + max(0.0, -minus_loss)) / max(images, 1)


def best_so_far(state: State, images: int) -> float:
    """What a stage is worth, the start of it not counted; its first epochs may be worse than that."""
    rows = [(row["val_accuracy"], -row["val_loss"]) for row in state.history if row["epoch"]]
    return worth(max(rows), images) if rows else worth(state.best_score or (0.0, 0.0), images)
