"""`--search`: which settings of the stage after the head are tried, and how a trial is scored.

What was asked for stays: a learning rate, a number of blocks or an augmentation that was given is not searched. The
planned settings are the first trial, so the search never ends below them on validation.
"""

import csv
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tlkit.base.files import replacing
from tlkit.base.story import Silence, Story
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task
from tlkit.training.checkpoint import Checkpoint, Sink, State
from tlkit.training.plan import Plan, Stage
from tlkit.training.stages import Material, run_stage

RATE_REACH = 8.0  # times the planned rate, and of it
AUGMENTS = ("light", "medium", "strong")
RANGES: dict[str, tuple[float, float, bool]] = {  # least, most, whether on a logarithmic scale
    "layer_decay": (0.5, 1.0, False),
    "weight_decay": (1e-6, 0.3, True),
    "label_smoothing": (0.0, 0.2, False),
}


@dataclass(frozen=True)
class SearchSpace:
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


def space(config: FinetuneConfig, plan: Plan, blocks: int, task: Task = SINGLE) -> SearchSpace:
    """What may be tried around a plan.

    Args:
        config: the options; `augment` and `unfreeze` settled.
        plan: its last stage is the one that is searched.
        blocks: of the backbone.
        task: what the images are labelled for.
    """
    stage = plan.stages[-1]
    planned = {
        "layer_decay": config.layer_decay,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.smoothing(task.smooths),
    }
    ranges = {name: limits for name, limits in RANGES.items() if limits[0] <= planned[name] <= limits[1]}
    if (config.loss or task.trained_by[0]) != "crossentropy":
        ranges.pop("label_smoothing", None)
    defaults: dict[str, Any] = {name: planned[name] for name in ranges}
    if config.learning_rate is None:
        ranges["learning_rate"] = stage.learning_rate / RATE_REACH, stage.learning_rate * RATE_REACH, True
        defaults["learning_rate"] = stage.learning_rate
    choices: dict[str, tuple[Any, ...]] = {}
    if stage.name == "top" and config.blocks is None and config.third == "last":
        depths = {max(1, stage.blocks // 2), stage.blocks, min(blocks - 1, 2 * stage.blocks)}
        choices["blocks"], defaults["blocks"] = tuple(sorted(depths)), stage.blocks
    return SearchSpace(defaults, ranges, choices)


def with_augment(found: SearchSpace, planned: str) -> SearchSpace:
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


# -- `--search N`: trials of the last stage with Optuna (Akiba et al. 2019); the best one on validation is what the run ships ---
#
#     search/journal.log      every trial, as Optuna keeps it; a run that was killed goes on with the trials left
#     search.csv              the same as a table
#
# Whatever is frozen is computed once for each depth and each strength of augmentation, and stored: a trial trains, and
# nothing else. After a quarter of its epochs a trial is stopped at the first one in which it is behind the median of the others.

# Options -> the plan and what its stages read, extracted where it is not stored yet.
Prepare = Callable[[FinetuneConfig], tuple[Plan, Material]]
UNJUDGED = 0.25  # of the epochs: while the rate warms up and is high, a trial says little of its end
STARTUP = 3  # finished trials before others are stopped early
COLUMNS = ("trial", "state", "val_accuracy", "val_loss", "epochs", "seconds")


def searched(
    plan: Plan, material: Material, sink: Sink, prepare: Prepare, story: Story, *, augment: bool
) -> tuple[Plan, Material]:
    """Try settings of the last stage, the stages before it being done; the best trial becomes its result.

    Args:
        plan: of the run.
        material: with the head trained, every trial starts from its weights; and with the options, as settled.
        sink: where trials are kept.
        prepare: makes plan and material for other options.
        story: hears about every trial.
        augment: whether the strength of the augmentation is searched, too.

    Returns:
        The plan with the best trial's stage, whose checkpoint is where that of a stage is, and its material.
    """
    config = material.config
    known = sink.read("search")
    if known:
        story.say(f"{known['note']} (searched before)")
        return plan, material
    trials = _Trials(plan, material, sink, prepare, story, augment=augment)
    trials.run()
    best = trials.take_best()
    sink.write("plan", best.plan.as_json())
    sink.write("search", {"trials": config.search, "note": trials.note})
    story.say(trials.note)
    return best.plan, best.material


@dataclass(frozen=True)
class _Trial:
    """One trial's plan and material."""

    plan: Plan
    material: Material

    @property
    def stage(self) -> Stage:
        return self.plan.stages[-1]


class _Trials:
    """The study, and everything a trial needs."""

    def __init__(
        self, plan: Plan, material: Material, sink: Sink, prepare: Prepare, story: Story, *, augment: bool
    ) -> None:
        self.plan, self.material, self.place = plan, material, sink.folder
        self.prepare, self.story = prepare, story
        self.config = config = material.config
        self.folder = sink.folder / "search"
        self.space = space(config, plan, len(material.backbone.blocks), material.dataset.task)
        if augment:
            self.space = with_augment(self.space, config.augment)
        self.start = material.classifier.model.get_weights()
        self.images = len(material.rows("val"))
        self.study = _study(self.folder, config.seed, plan.stages[-1].epochs)
        self._prepared: dict[tuple[Any, ...], _Trial] = {}
        self.note = ""

    def run(self) -> None:
        """The trials that are left."""
        from optuna.trial import TrialState

        if not self.study.trials:
            self.study.enqueue_trial(self.space.defaults)
        for cut_off in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(cut_off.number, state=TrialState.FAIL)
            self.study.enqueue_trial(cut_off.params)
        while len(self._finished()) < (self.config.search or 0):
            self._one(self.study.ask())
            self._write_table()

    def take_best(self) -> _Trial:
        """Put the best trial's weights into the layers, and its checkpoint where that of the stage belongs."""
        from optuna.trial import TrialState

        best, finished = self.study.best_trial, self._finished()
        pruned = sum(trial.state == TrialState.PRUNED for trial in finished)
        first = next(trial for trial in finished if trial.params == self._planned_params(trial))
        self.note = (
            f"search: trial {best.number + 1} of {len(finished)} is the best on validation, accuracy "
            f"{best.user_attrs['val_accuracy']:.4f} against {first.user_attrs['val_accuracy']:.4f} as planned "
            f"({_in_words(best.params)}); {pruned} were stopped early. The {self.images} validation images were looked at "
            "once for each trial and flatter the best one: what counts is the test split"
        )
        trial, target = self._trial(best.params), self.place / "checkpoints" / self.plan.stages[-1].name
        if self._place(best.number).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            self._place(best.number).rename(target)
        return trial

    def _planned_params(self, trial: Any) -> dict[str, Any]:
        return {name: self.space.defaults[name] for name in trial.params}

    def _finished(self) -> list[Any]:
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def _place(self, number: int) -> Any:
        return self.folder / f"trial-{number:04d}"

    def _one(self, ask: Any) -> None:
        """Run one trial, and keep its weights if it is the best so far."""
        from optuna.trial import TrialState

        values, started = self.space.suggest(ask), time.monotonic()
        trial = self._trial(values)
        self.material.classifier.model.set_weights(self.start)
        stopped = False

        def behind(state: State) -> bool:
            nonlocal stopped
            ask.report(best_so_far(state, self.images), state.epoch)
            stopped = ask.number > 0 and ask.should_prune()
            return stopped

        shutil.rmtree(self._place(ask.number), ignore_errors=True)
        state = run_stage(
            trial.stage, trial.material, Checkpoint(self._place(ask.number)), _Aside(self.story), stop=behind
        )
        # Of what was trained: the start, the same for every trial, would hide how they differ.
        trained = state.kept[0].score if state.kept else state.best_score
        accuracy, minus_loss = trained or (0.0, 0.0)
        facts = {"val_accuracy": accuracy, "val_loss": -minus_loss, "epochs": state.epoch}
        for name, value in (facts | {"seconds": round(time.monotonic() - started, 1)}).items():
            ask.set_user_attr(name, value)
        if stopped:
            self.study.tell(ask, state=TrialState.PRUNED)
        else:
            self.study.tell(ask, worth((accuracy, minus_loss), self.images))
        self._keep_best()
        outcome = f"stopped after {state.epoch} epochs" if stopped else f"loss {-minus_loss:.4f}"
        place = f"{len(self._finished())} of {self.config.search}"
        self.story.reach(len(self._finished()), self.config.search or 1)
        self.story.say(f"  trial {place}: validation accuracy {accuracy:.4f}, {outcome} ({_in_words(values)})")

    def _trial(self, values: dict[str, Any]) -> _Trial:
        """Plan and material, extracted for the first trial that needs them."""
        options = of_the_plan(self.config, values)
        key = options.blocks, options.augment
        if key not in self._prepared:
            same = all(values.get(name) in (None, self.space.defaults.get(name)) for name in ("blocks", "augment"))
            self._prepared[key] = _Trial(self.plan, self.material) if same else _Trial(*self.prepare(options))
        found = self._prepared[key]
        stage = with_rate(found.stage, values)
        plan = replace(found.plan, stages=(*self.plan.stages[:-1], stage))
        return _Trial(plan, replace(found.material, config=of_the_stage(found.material.config, values)))

    def _keep_best(self) -> None:
        from optuna.trial import TrialState

        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = max(done, key=lambda trial: trial.value).number if done else None
        for folder in self.folder.glob("trial-*"):
            if best is None or folder != self._place(best):
                shutil.rmtree(folder)

    def _write_table(self) -> None:
        """search.csv, a row for each finished trial."""
        names = sorted(self.space.defaults)
        with (
            replacing(self.place / "search.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *names])
            for trial in self._finished():
                facts = [trial.user_attrs[name] for name in COLUMNS[2:]]
                values = [trial.params[name] for name in names]
                writer.writerow([trial.number + 1, trial.state.name.lower(), *facts, *values])


def _study(folder: Any, seed: int, epochs: int) -> Any:
    """Optuna's study in the run folder, made or gone on with; it says nothing itself."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(storage=storage, study_name="tlkit", direction="maximize", load_if_exists=True)
    # Drawn anew for what is left: a sampler's place in its random numbers is not stored.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=STARTUP, n_warmup_steps=max(2, round(UNJUDGED * epochs))
    )
    return study


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


@dataclass(frozen=True)
class _Aside(Silence):
    """A story whose sentences are details: those of the epochs of a trial, which are no progress of the whole."""

    story: Story

    def say(self, text: str) -> None:
        """For the curious."""
        self.story.detail(text)

    def detail(self, text: str) -> None:
        """For the curious."""
        self.story.detail(text)

    def track(self, items: Any, description: str, total: int | None = None) -> Any:
        """As it is."""
        yield from self.story.track(items, description, total)
