"""After the last stage: ship the probe, the fine-tuned network, an interpolation of the two or a mean of good epochs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.data.dataset import Dataset, Splits
from tlkit.evaluation.choice import NOT_GAINED, Choice, Entry, gain, judge
from tlkit.evaluation.choice import choose as decide
from tlkit.evaluation.evaluate import group_codes
from tlkit.evaluation.judgement import Mean
from tlkit.evaluation.results import Metric
from tlkit.training.checkpoint import Checkpoint, Kept, Sink, State
from tlkit.training.plan import Plan, Stage
from tlkit.training.stages import Material, bare_model, held_out, logits, stage_model

Weights = list[np.ndarray]
Rank = tuple[float, float]


def interpolate(first: Weights, second: Weights, alpha: float) -> Weights:
    """`first` at alpha 0, `second` at 1; exactly what both have where they agree."""
    return [_moved(one, alpha * (other - one)) for one, other in zip(first, second, strict=True)]


def mean(ingredients: Sequence[Weights]) -> Weights:
    """The mean of each weight; exactly what all have where they agree."""
    return [
        _moved(same[0], np.mean([one - same[0] for one in same], axis=0)) for same in zip(*ingredients, strict=True)
    ]


def _moved(weight: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A weight moved by `by`; whole numbers (counters, seeds) cannot be interpolated and stay."""
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    return (weight + by).astype(weight.dtype)


def greedy_soup(ingredients: Iterable[Weights], measure: Callable[[Weights], Rank]) -> tuple[Weights, int]:
    """The mean of the ingredients that improve it.

    Args:
        ingredients: the best first; at least one. Read one by one, so that they need not all be in memory at once.
        measure: ranks weights on held-out images, higher is better.

    Returns:
        The mean and how many are in it: each was added because it did not make the mean worse.
    """
    chosen: list[Weights] = []
    best: Rank | None = None
    for weights in ingredients:
        rank = measure(mean([*chosen, weights]))
        if best is None or rank >= best:
            chosen, best = [*chosen, weights], rank
    return mean(chosen), len(chosen)


# -- The weights that the gradient stages of a run kept, loaded into the layers of its classifier by name ---


def gradient_stages(plan: Plan) -> list[Stage]:
    """The stages in which the backbone learns."""
    return [stage for stage in plan.stages if stage.name != "head"]


class Tuned:
    """The results of the stages after the first one.

    Args:
        plan: with at least one of them.
        states: of all its stages, every one over.
        material: the classifier, whose layers every method reads or writes.
        folder: of the checkpoints.
    """

    def __init__(self, plan: Plan, states: Sequence[State], material: Material, folder: Path) -> None:
        self.stages = gradient_stages(plan)
        self._states = {stage.name: state for stage, state in zip(plan.stages, states, strict=True)}
        self._checkpoints = {stage.name: Checkpoint(folder / stage.name) for stage in self.stages}
        self._models = {stage.name: bare_model(stage, material) for stage in self.stages}
        self._own = Checkpoint(folder / "choice")
        self._material = material

    @property
    def _whole(self) -> keras.Model:
        """The model of everything that any stage trained: the last stage's, since each trains what the one before it did."""
        return self._models[self.stages[-1].name]

    def kept(self) -> list[tuple[Stage, Kept]]:
        """The epochs that are kept, by stage and then the best first."""
        return [(stage, kept) for stage in self.stages for kept in self._states[stage.name].kept]

    def tried(self, stage: Stage) -> int:
        """The number of epochs among which the validation images picked that of a stage: more than one with a patience."""
        return 1 if self._material.config.patience is None else self._states[stage.name].epoch

    def tried_in_all(self) -> int:
        """The number of epochs of all stages among which the validation images picked the best."""
        return sum(self._states[stage.name].epoch for stage in self.stages)

    def put_probe(self) -> None:
        """Load the layers as the first of these stages found them: the solved head on the pretrained backbone."""
        self.put(self.stages[0], self._states[self.stages[0].name].start)

    def put(self, stage: Stage, file: str) -> None:
        """Load the layers from a file of a stage; what only later stages trained is as that stage left it."""
        last = self.stages[-1]
        if stage.name != last.name:
            self._checkpoints[last.name].load_weights(self._whole, self._states[last.name].start)
        self._checkpoints[stage.name].load_weights(self._models[stage.name], file)

    def read(self) -> Weights:
        """The weights that the layers hold."""
        return [np.array(weight) for weight in self._whole.get_weights()]

    def write(self, weights: Weights) -> None:
        """Put weights from `read`, or computed from them, into the layers."""
        self._whole.set_weights(weights)

    def held_out(self) -> Callable[[], np.ndarray]:
        """A function for the logits float32 (n, K) of the validation images by the weights of the layers when it is called."""
        return held_out(self.stages[-1], self._material)

    def keep(self) -> None:
        """Write the weights of the layers, for a resumed run."""
        self._own.save_weights(self._whole, "chosen")

    def is_kept(self) -> bool:
        """Whether `keep` has written."""
        return (self._own.folder / "chosen.weights.h5").is_file()

    def put_chosen(self) -> None:
        """Load the weights that `keep` wrote."""
        self._own.load_weights(self._whole, "chosen.weights.h5")

    def forget_others(self) -> None:
        """Remove the weights of all epochs but the best of each stage."""
        for checkpoint in self._checkpoints.values():
            checkpoint.forget_others()


# -- After the last stage: ship the probe, the fine-tuned network, an interpolation of the two or a mean of good epochs ---

ALPHAS = (0.25, 0.5, 0.75)  # of the way from the probe to the fine-tuned weights
PROBE = "the probe"


class Offer(NamedTuple):
    """A candidate.

    Args:
        name: in words.
        kind: see `tlkit.evaluation.choice`.
        put: puts it into the layers.
        tried: the number of which it is the best on the validation images, see `Entry`.
    """

    name: str
    kind: str
    put: Callable[[], None]
    tried: int = 1


def offers(trained: Tuned) -> list[Offer]:
    """The results of the stages and their interpolations, the simplest first: the probe, the end of each stage, ..."""
    best: dict[str, tuple[Stage, str, str]] = {}
    for stage, kept in trained.kept():
        best.setdefault(stage.name, (stage, kept.file, f"{stage.name} after epoch {kept.epoch}"))
    found = [Offer(PROBE, "probe", trained.put_probe)]
    for stage, file, name in best.values():
        found.append(Offer(name, "fine-tuned", partial(trained.put, stage, file), trained.tried(stage)))
    if best:
        tuned = found[-1]
        ends = cache(lambda: (_read(trained, found[0]), _read(trained, tuned)))
        for alpha in ALPHAS:
            name = f"{alpha:g} of the way from the probe to {tuned.name}"
            found.append(Offer(name, "interpolated", partial(_put_between, trained, ends, alpha), tuned.tried))
    return found


def _put_between(trained: Tuned, ends: Callable[[], tuple[Weights, Weights]], alpha: float) -> None:
    trained.write(interpolate(*ends(), alpha))


def _read(trained: Tuned, offer: Offer) -> Weights:
    """The weights of a candidate, which the layers hold afterwards."""
    offer.put()
    return trained.read()


def entries(found: Sequence[Offer], said: Callable[[], np.ndarray]) -> list[Entry]:
    """The logits of each candidate for the held-out images; `said` computes them with the current weights of the layers."""
    given = []
    for offer in found:
        offer.put()
        given.append(Entry(offer.name, offer.kind, said(), offer.tried))
    return given


def choose(
    sink: Sink,
    plan: Plan,
    material: Material,
    states: Sequence[State],
    story: Story,
    crossed: Choice | None = None,
) -> Choice | None:
    """Choose what ships, put it into the layers, and record it; a choice made before is kept.

    Args:
        sink: where it is recorded.
        plan: its stages.
        material: the images and the network.
        states: what became of each stage.
        story: reports it.
        crossed: the choice by cross-validation in place of validation images.

    Returns:
        None where there is nothing to choose from, or no image to choose by.
    """
    if not gradient_stages(plan):
        return crossed
    trained = Tuned(plan, states, material, sink.folder / "checkpoints")
    known = sink.read("choice")
    if known and trained.is_kept():
        trained.put_chosen()
        made = Choice.from_json(known)
        story.say(f"choice: {made.chosen} (chosen before)")
        trained.forget_others()
        return made
    if crossed is not None:
        _put_by_name(crossed.chosen, offers(trained))
        trained.keep()
        trained.forget_others()
        return crossed
    if not len(material.rows("val")):
        story.say(
            f"choice: the last stage's weights are kept; without validation {material.dataset.samples} nothing has checked them"
        )
        return None
    labels, groups = material.labels("val"), groups_of(material.dataset, material.rows("val"))
    balanced, said, found = is_balanced(material), trained.held_out(), offers(trained)
    given = entries(found, said)
    soup, count = _soup(trained, lambda: judge(Entry("", "soup", said()), labels, balanced).rank)
    if count > 1:
        name, tried = f"the mean of {count} epochs", trained.tried_in_all()
        found.append(Offer(name, "soup", partial(trained.write, soup), tried))
        given += entries(found[-1:], said)
    made = decide(given, labels, groups=groups, balanced=balanced)
    made = replace(made, held_out=f"{len(labels)} validation {material.dataset.samples}")
    _put_by_name(made.chosen, found)
    trained.keep()
    sink.write("choice", made.as_json())
    story.say(describe_choice(made, material.dataset.sample))
    trained.forget_others()
    return made


def _put_by_name(name: str, found: Sequence[Offer]) -> None:
    """Put a candidate into the layers.

    Raises:
        TlkitError: training on all images ended in another epoch than in the folds, because the loss was not finite.
    """
    offer = next((offer for offer in found if offer.name == name), None)
    if offer is None:
        raise TlkitError(
            f"{name} was chosen by cross-validation, but training on all images did not reach it.",
            "lower --learning-rate, or ship the probe: --stages head.",
        )
    offer.put()


def _soup(trained: Tuned, rank: Callable[[], Rank]) -> tuple[Weights, int]:
    """The greedy mean of the epochs kept, and how many are in it; `rank` ranks the current weights of the layers."""
    kept = sorted(trained.kept(), key=lambda one: one[1].score or (), reverse=True)

    def ingredients() -> Iterator[Weights]:
        for stage, epoch in kept:
            trained.put(stage, epoch.file)
            yield trained.read()

    def measure(weights: Weights) -> Rank:
        trained.write(weights)
        return rank()

    return greedy_soup(ingredients(), measure) if len(kept) > 1 else ([], 0)


def is_balanced(material: Material) -> bool:
    """Whether every class is to weigh the same."""
    return material.config.balance != "none" and material.dataset.task.can("balance")


def ships_from(plan: Plan, made: Choice | None) -> Stage:
    """The stage from whose stored input everything that ships can be computed."""
    return plan.stages[0] if made is not None and made.taken.kind == "probe" else plan.stages[-1]


def record_gain(made: Choice, sink: Sink, plan: Plan, material: Material, scores: np.ndarray, story: Story) -> None:
    """Record what the choice gains over the probe on every split; scores float32 (N, K) of every image.

    Only where the head's input is stored, so that the probe's logits take a second.
    """
    head = plan.stages[0]
    if made.taken.kind == "probe" or head.source != "features":
        return
    model, checkpoint = stage_model(head, material), Checkpoint(sink.folder / "checkpoints" / head.name)
    shipped = model.get_weights()
    checkpoint.load_weights(model, checkpoint.read().best)
    before = logits(head, material, story)
    model.set_weights(shipped)
    gained = _by_split(material.dataset, material.splits, before, scores)
    sink.write("choice", replace(made, gained=gained).as_json())


def _by_split(dataset: Dataset, splits: Splits, before: np.ndarray, after: np.ndarray) -> dict[str, Metric]:
    found = {}
    for name in ("val", "test"):
        rows = splits.indices(name)
        rows = rows[dataset.labelled[rows]]
        if len(rows):
            found[name] = gain(before[rows], after[rows], dataset.truth[rows], groups_of(dataset, rows))
    return found


def groups_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray | None:
    """Int (n,), the groups of these rows, None where images are independent."""
    return group_codes(None if dataset.groups is None else [dataset.groups[i] for i in rows])


def describe_choice(made: Choice, sample: str) -> str:
    """The candidates and the choice, as lines of text.

    Args:
        made: the choice.
        sample: see `Dataset.sample`.
    """
    lines = [f"choice, by {made.held_out}:"]
    for one in made.candidates:
        change = ""
        if one.gained is not None and one.gained.value is not None:
            low, high = (f"{100 * (end or 0):+.1f}" for end in (one.gained.low, one.gained.high))
            change = f", {100 * one.gained.value:+.1f} points [{low}, {high}] against the probe"
        lines.append(
            f"  {made.measure} {one.accuracy.value:.4f}, {made.loss} {one.log_loss.value:.4f}  {one.name}{change}"
        )
    lines.append(f"  {made.chosen} ships: {made.reason}")
    if made.taken.kind == "probe":
        lines.append(f"  {NOT_GAINED[sample]}")
    return "\n".join(lines)


def solved_mean(stage: Stage, material: Material, folder: Path) -> Mean:
    """The head on the mean over time as its stage left it in a folder; the layers are unchanged afterwards."""
    model, checkpoint = stage_model(stage, material), Checkpoint(folder)
    shipped = model.get_weights()
    checkpoint.load_weights(model, checkpoint.read().best)
    kernel, bias = model.get_layer("logits").get_weights()
    model.set_weights(shipped)
    return Mean(kernel, bias)
