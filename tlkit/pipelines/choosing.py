"""After the last stage: ship the probe, the fine-tuned network, something between them or a mean of good epochs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from tlkit.core.atomic import read_json, write_json
from tlkit.core.choice import Choice
from tlkit.core.errors import TlkitError
from tlkit.core.manifest import Manifest
from tlkit.core.results import Metric
from tlkit.core.run_dir import RunDir
from tlkit.core.splits import Splits
from tlkit.core.story import Story
from tlkit.evaluation.choice import Entry, gain, judge
from tlkit.evaluation.choice import choose as decide
from tlkit.evaluation.evaluate import group_codes
from tlkit.training.average import Rank, Weights, greedy_soup, interpolate
from tlkit.training.candidates import Trained, gradient_stages
from tlkit.training.checkpoint import Checkpoint, State
from tlkit.training.plan import Plan, Stage
from tlkit.training.stages import Material, logits, stage_model

ALPHAS = (0.25, 0.5, 0.75)  # of the way from the probe to the fine-tuned weights
PROBE = "the probe"


class Offer(NamedTuple):
    """A candidate.

    Args:
        name: in words.
        kind: see `tlkit.core.choice`.
        put: puts it into the layers.
        tried: of how many it is the best by the validation images, see `Entry`.
    """

    name: str
    kind: str
    put: Callable[[], None]
    tried: int = 1


def offers(trained: Trained) -> list[Offer]:
    """What the stages left and what lies between, the simplest first: the probe, what each stage ended with, ..."""
    best: dict[str, tuple[Stage, str, str]] = {}
    for stage, kept in trained.kept():
        best.setdefault(stage.name, (stage, kept.file, f"{stage.name} after epoch {kept.epoch}"))
    found = [Offer(PROBE, "probe", trained.put_probe)]
    for stage, file, name in best.values():
        found.append(Offer(name, "fine-tuned", partial(trained.put, stage, file), trained.tried(stage)))
    if best:
        tuned = found[-1]
        for alpha in ALPHAS:
            name = f"{alpha:g} of the way from the probe to {tuned.name}"
            found.append(Offer(name, "interpolated", partial(_put_between, trained, tuned, alpha), tuned.tried))
    return found


def _put_between(trained: Trained, tuned: Offer, alpha: float) -> None:
    trained.put_probe()
    probe = trained.read()
    tuned.put()
    trained.write(interpolate(probe, trained.read(), alpha))


def entries(found: Sequence[Offer], said: Callable[[], np.ndarray]) -> list[Entry]:
    """What each candidate says of the images held out; `said` gives it for what the layers hold."""
    given = []
    for offer in found:
        offer.put()
        given.append(Entry(offer.name, offer.kind, said(), offer.tried))
    return given


def choose(
    run_dir: RunDir,
    plan: Plan,
    material: Material,
    states: Sequence[State],
    story: Story,
    crossed: Choice | None = None,
) -> Choice | None:
    """Choose what ships, put it into the layers, and record it; a choice that was made before is taken as it is.

    Args:
        run_dir: where it is recorded.
        plan: its stages.
        material: the images and the network.
        states: what became of each stage.
        story: hears about it.
        crossed: what cross-validation chose in the place of validation images.

    Returns:
        None where there is nothing to choose from, or no image to choose by.
    """
    if not gradient_stages(plan):
        return crossed
    trained = Trained(plan, states, material, run_dir.checkpoints)
    if run_dir.choice.is_file() and trained.is_kept():
        trained.put_chosen()
        made = Choice.from_json(read_json(run_dir.choice))
        story.say(f"choice: {made.chosen} (chosen before)")
        trained.forget_others()
        return made
    if crossed is not None:
        _put_by_name(crossed.chosen, offers(trained))
        trained.keep()
        trained.forget_others()
        return crossed
    if not len(material.rows("val")):
        story.say("choice: the last stage's weights are kept; without validation images nothing has checked them")
        return None
    labels, groups = material.labels("val"), groups_of(material.manifest, material.rows("val"))
    balanced, said, found = is_balanced(material), trained.held_out(), offers(trained)
    given = entries(found, said)
    soup, count = _soup(trained, lambda: judge(Entry("", "soup", said()), labels, balanced).rank)
    if count > 1:
        name, tried = f"the mean of {count} epochs", trained.tried_in_all()
        found.append(Offer(name, "soup", partial(trained.write, soup), tried))
        given += entries(found[-1:], said)
    made = decide(given, labels, groups=groups, balanced=balanced)
    made = replace(made, held_out=f"{len(labels)} validation images")
    _put_by_name(made.chosen, found)
    trained.keep()
    write_json(run_dir.choice, made.as_json())
    story.say(told(made))
    trained.forget_others()
    return made


def _put_by_name(name: str, found: Sequence[Offer]) -> None:
    """Put a candidate into the layers.

    Raises:
        TlkitError: training on all images ended in another epoch than in the folds, because the loss was no number.
    """
    offer = next((offer for offer in found if offer.name == name), None)
    if offer is None:
        raise TlkitError(
            f"{name} was chosen by cross-validation, and training on all images does not get there.",
            "lower --learning-rate, or ship the probe: --stages head.",
        )
    offer.put()


def _soup(trained: Trained, rank: Callable[[], Rank]) -> tuple[Weights, int]:
    """The greedy mean of the epochs kept, and how many are in it; `rank` is of what the layers hold."""
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
    return material.config.balance != "none" and not material.manifest.multi


def ships_from(plan: Plan, made: Choice | None) -> Stage:
    """The stage from whose stored input everything that ships can be computed."""
    return plan.stages[0] if made is not None and made.taken.kind == "probe" else plan.stages[-1]


def record_gain(
    made: Choice, run_dir: RunDir, plan: Plan, material: Material, scores: np.ndarray, story: Story
) -> None:
    """Record what the choice gains over the probe on every split; scores float32 (N, K) of every image.

    Only where the head's input is stored, which makes the probe's logits a matter of a second.
    """
    head = plan.stages[0]
    if made.taken.kind == "probe" or head.source != "features":
        return
    model, checkpoint = stage_model(head, material), Checkpoint(run_dir.checkpoints / head.name)
    shipped = model.get_weights()
    checkpoint.load_weights(model, checkpoint.read().best)
    before = logits(head, material, story)
    model.set_weights(shipped)
    gained = _by_split(material.manifest, material.splits, before, scores)
    write_json(run_dir.choice, replace(made, gained=gained).as_json())


def _by_split(manifest: Manifest, splits: Splits, before: np.ndarray, after: np.ndarray) -> dict[str, Metric]:
    found = {}
    for name in ("val", "test"):
        rows = splits.indices(name)
        rows = rows[manifest.labelled[rows]]
        if len(rows):
            found[name] = gain(before[rows], after[rows], manifest.truth[rows], groups_of(manifest, rows))
    return found


def groups_of(manifest: Manifest, rows: np.ndarray) -> np.ndarray | None:
    """Int (n,) of these rows, None where every image stands for itself."""
    return group_codes(None if manifest.groups is None else [manifest.groups[i] for i in rows])


def told(made: Choice) -> str:
    """The candidates and the choice, in lines."""
    lines = [f"choice, by {made.held_out}:"]
    for one in made.candidates:
        change = ""
        if one.gained is not None and one.gained.value is not None:
            low, high = (f"{100 * (end or 0):+.1f}" for end in (one.gained.low, one.gained.high))
            change = f", {100 * one.gained.value:+.1f} points [{low}, {high}] against the probe"
        lines.append(
            f"  {made.measure} {one.accuracy.value:.4f}, log loss {one.log_loss.value:.4f}  {one.name}{change}"
        )
    lines.append(f"  {made.chosen} ships: {made.reason}")
    if made.taken.kind == "probe":
        lines.append("  fine-tuning did not help here; the backbone is as it was pretrained")
    return "\n".join(lines)
