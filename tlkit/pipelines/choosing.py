"""After the last stage: ship the probe, the fine-tuned network, something between them or a mean of good epochs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tlkit.core.atomic import read_json, write_json
from tlkit.core.choice import Choice
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


def choose(run_dir: RunDir, plan: Plan, material: Material, states: Sequence[State], story: Story) -> Choice | None:
    """Choose what ships, put it into the layers, and record it; a choice that was made before is taken as it is.

    Returns:
        None where there is nothing to choose from, or no validation image to choose by.
    """
    if not gradient_stages(plan):
        return None
    trained = Trained(plan, states, material, run_dir.checkpoints)
    if run_dir.choice.is_file():
        trained.put_chosen()
        made = Choice.from_json(read_json(run_dir.choice))
        story.say(f"choice: {made.chosen} (chosen before)")
        trained.forget_others()
        return made
    if not len(material.rows("val")):
        story.say("choice: the last stage's weights are kept; without validation images nothing has checked them")
        return None
    offers = _Offers(trained, material)
    entries = offers.entries()
    made = decide(entries, offers.labels, groups=offers.groups, balanced=offers.balanced)
    made = replace(made, held_out=f"{len(offers.labels)} validation images")
    offers.put[made.chosen]()
    trained.keep()
    write_json(run_dir.choice, made.as_json())
    story.say(told(made))
    trained.forget_others()
    return made


class _Offers:
    """The candidates: what each says of the validation images, and how to put it into the layers."""

    def __init__(self, trained: Trained, material: Material) -> None:
        self.trained = trained
        self.labels = material.labels("val")
        self.groups = _groups(material.manifest, material.rows("val"))
        self.balanced = material.config.balance != "none"
        self.put: dict[str, Callable[[], None]] = {}
        self._logits = trained.held_out()

    def entries(self) -> list[Entry]:
        """All candidates, the simplest first."""
        trained, best = self.trained, self._best_epochs()
        entries = [self._offer(PROBE, "probe", trained.put_probe)]
        probe = trained.read()
        for stage, file, name in best:
            entries.append(self._offer(name, "fine-tuned", partial(trained.put, stage, file)))
        if not best:
            return entries
        tuned = trained.read()  # of the last stage, the one that was put there last
        for alpha in ALPHAS:
            name = f"{alpha:g} of the way from the probe to {best[-1][2]}"
            entries.append(self._offer(name, "interpolated", partial(self._put_between, probe, tuned, alpha)))
        soup, count = self._soup()
        if count > 1:
            entries.append(self._offer(f"the mean of {count} epochs", "soup", partial(trained.write, soup)))
        return entries

    def _put_between(self, probe: Weights, tuned: Weights, alpha: float) -> None:
        self.trained.write(interpolate(probe, tuned, alpha))

    def _offer(self, name: str, kind: str, put: Callable[[], None]) -> Entry:
        put()
        self.put[name] = put
        return Entry(name, kind, self._logits())

    def _best_epochs(self) -> list[tuple[Stage, str, str]]:
        """Of each stage the best epoch that was trained: stage, file, name."""
        best: dict[str, tuple[Stage, str, str]] = {}
        for stage, kept in self.trained.kept():
            best.setdefault(stage.name, (stage, kept.file, f"{stage.name} after epoch {kept.epoch}"))
        return list(best.values())

    def _soup(self) -> tuple[Weights, int]:
        """The greedy mean of the epochs kept, and how many are in it."""

        def ingredients() -> Iterator[Weights]:
            for stage, kept in sorted(self.trained.kept(), key=lambda one: one[1].score or (), reverse=True):
                self.trained.put(stage, kept.file)
                yield self.trained.read()

        def measure(weights: Weights) -> Rank:
            self.trained.write(weights)
            return judge(Entry("", "soup", self._logits()), self.labels, self.balanced).rank

        return greedy_soup(ingredients(), measure)


def ships_from(plan: Plan, made: Choice | None) -> Stage:
    """The stage from whose stored input everything that ships can be computed."""
    return plan.stages[0] if made is not None and made.taken.kind == "probe" else plan.stages[-1]


def with_gain(
    made: Choice, run_dir: RunDir, plan: Plan, material: Material, scores: np.ndarray, story: Story
) -> Choice:
    """The choice with what it gains over the probe on every split, recorded; scores float32 (N, K) of every image.

    Only where the head's input is stored, which makes the probe's logits a matter of a second.
    """
    head = plan.stages[0]
    if made.taken.kind == "probe" or head.source != "features":
        return made
    model, checkpoint = stage_model(head, material), Checkpoint(run_dir.checkpoints / head.name)
    shipped = model.get_weights()
    checkpoint.load_weights(model, checkpoint.read().best)
    before = logits(head, material, story)
    model.set_weights(shipped)
    made = replace(made, gained=_by_split(material.manifest, material.splits, before, scores))
    write_json(run_dir.choice, made.as_json())
    return made


def _by_split(manifest: Manifest, splits: Splits, before: np.ndarray, after: np.ndarray) -> dict[str, Metric]:
    found = {}
    for name in ("val", "test"):
        rows = splits.indices(name)
        rows = rows[manifest.labels[rows] >= 0]
        if len(rows):
            found[name] = gain(before[rows], after[rows], manifest.labels[rows], _groups(manifest, rows))
    return found


def _groups(manifest: Manifest, rows: np.ndarray) -> np.ndarray | None:
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
