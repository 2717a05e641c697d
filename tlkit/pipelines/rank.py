"""`tlkit rank`: images in; a ranking of backbones and a learning curve out.

tlkit rank images
tlkit rank images --backbones nano,mobilenetv2:alpha=0.35,size=160 --how-many
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones import runtime
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing_all, write_json, write_text
from tlkit.base.machine import versions
from tlkit.base.story import Phase, Silence, Story
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import levels_for, set_aside
from tlkit.data.folders import refuse_inside
from tlkit.data.folds import deals as dealt
from tlkit.data.scan import labelling, scan
from tlkit.data.split import fixing, split
from tlkit.evaluation.results import Metric, plain
from tlkit.extraction.extract import Extraction, shard_result
from tlkit.extraction.source import FeatureSource
from tlkit.options import advice
from tlkit.options.obtain import RankConfig, Wanted, read_candidates
from tlkit.pixels.contract import Levels
from tlkit.ranking import choose, curve, selection
from tlkit.ranking import ranking as candidates
from tlkit.ranking.predicted import MEASURE, after_tuning
from tlkit.ranking.ranking import Forecast, LearningCurve, RankedBackbone, Ranking, Skipped
from tlkit.report.ranking_page import RankingPage, as_csv, ranking_text, write_ranking_page
from tlkit.runs import record
from tlkit.runs.folder import refuse_occupied

FORMAT = 1
FOLDS, REPEATS = 5, 2
TIMES = (1, 2, 5)  # multiples of the current number of images to forecast
BATCH = 32  # images per timed pass


def run(config: RankConfig, story: Story | None = None) -> dict[str, Any]:
    """Extract each candidate's features once, through the store; score, time and compare the candidates.

    Returns rank.json (see `Ranking`), `out`, `report`, `set_aside` and `text`; for a shard see `shard_result`.

    Raises:
        TlkitError: for wrong options, fewer than two classes, no candidate with weights that load, an occupied `out`.
    """
    story, out, started = story or Silence(), Path(config.out), time.monotonic()
    refuse_occupied(out, overwrite=config.overwrite or config.shard is not None)  # a shard writes no result
    refuse_inside(out, config.images)
    runtime.seed_everything(config.seed)
    wanted, skipped = _candidates(config, story)
    story.expect(*_phases(wanted)[: None if config.shard is None else -2])
    dataset = scan(config.images, **labelling(config), group_by=config.group_by, fixes=fixing(config), story=story)
    whole = dataset
    rows, available = _rows(config, dataset)
    dataset = dataset.select(rows)
    _say_images(config, whole, dataset, available, story)

    levels = levels_for(config, whole, story)
    contestants, unopened = _look(config, wanted, dataset, levels, story)
    if config.shard is not None:
        return shard_result(config, len(dataset), [one.found for one in contestants], story)
    problems = list({problem.path: problem for one in contestants for problem in one.found.problems}.values())
    kept = dataset.rows_beside(problems)
    dataset = set_aside(dataset, problems, config.on_bad)
    units = selection.units_of(dataset)
    _say_single(selection.refuse_hopeless(dataset.classes, dataset.truth, units), story)
    deals = dealt(dataset.truth, units, folds=FOLDS, repeats=REPEATS, seed=config.seed)
    folds = int(deals[0].max()) + 1
    learned = dataset.in_units(dataset.task.scale(dataset.truth))
    entries = [one.scored(learned, kept, deals) for one in story.track(contestants, "scoring", len(contestants))]
    story.begin("timing")
    ranked = choose.compare(entries, _milliseconds(contestants), folds, len(dataset), _expected(entries, dataset))
    chosen, reason = choose.recommend(ranked, config.prefer)
    measure = dataset.task.score_name
    ranking = Ranking(
        images=len(dataset),
        available=available,
        classes=dataset.classes,
        rule=f"{_rule(len(dataset), available, config)} {measure.capitalize()}: ridge classification on pooled features, {REPEATS} times "
        f"{folds} folds, groups and exact copies in one fold, the penalty chosen on other folds; 95 % intervals by the "
        "corrected resampled t-test (Nadeau and Bengio 2003).",
        candidates=tuple(ranked),
        skipped=(*skipped, *unopened),
        recommended=chosen.name,
        best=ranked[0].name,
        reason=reason,
        command=advice.finetune(config, config.images, *shlex.split(chosen.flags)),
        measure=measure,
        curve=_curve(config, contestants, chosen, dataset, kept, available, story) if config.how_many else None,
    )
    text = ranking_text(ranking, unopened)
    result = {"format": FORMAT, **plain(ranking), "seconds": round(time.monotonic() - started, 3)}
    _write(config, out, ranking, result, dataset)
    counted = f"{len(ranked)} candidate{'s' * (len(ranked) > 1)}"
    story.say(f"{out / 'rank.html'}: {counted} on {len(dataset)} images in {result['seconds']:.1f} s")
    aside = [problem.as_json() for problem in dataset.set_aside]
    return result | {"out": str(out), "report": str(out / "rank.html"), "set_aside": aside, "text": text}


def _phases(wanted: list[Wanted]) -> tuple[Phase, ...]:
    """The phases of a ranking, with seconds of small networks on two cores."""
    looks = (Phase(one.name, 3.0, 0.02, by="extracting") for one in wanted)
    return Phase("reading files", 0.2, 1e-3), *looks, Phase("scoring", 1.0, 2e-3), Phase("timing", 2.0 * len(wanted))


# -- images and candidates ---------------------------------------------------------------------


def _candidates(config: RankConfig, story: Story) -> tuple[list[Wanted], list[Any]]:
    """The candidates, and those skipped, which are reported."""
    if config.backbones is None:
        wanted, skipped = candidates.everyone(config.image_size)
        names = ", ".join(one.name for one in skipped)
        story.say(f"candidates: nano and every backbone whose weights are on this machine; skipped: {names or 'none'}")
    else:
        wanted, skipped = candidates.at_hand(read_candidates(config.backbones, config.image_size))
        for one in skipped:
            _say_skipped(one, story)
    if not wanted:
        raise TlkitError(f"no candidate's weights are on this machine; {skipped[0].reason}.", skipped[0].remedy)
    return wanted, skipped


def _say_skipped(one: Skipped, story: Story) -> None:
    story.say(f"{one.name} is skipped: {one.reason}. {one.remedy}")


def _rows(config: RankConfig, dataset: Dataset) -> tuple[np.ndarray, int]:
    """The rows to use, ordered by their content, and the number of rows available."""
    if config.how_many:
        dataset.task.refuse("curve", "--how-many")
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)
    pool = np.sort(np.concatenate([splits.indices("train"), splits.indices("val")]))
    labelled = pool[dataset.labelled[pool]]
    selection.refuse_hopeless(dataset.classes, dataset.truth[labelled], selection.units_of(dataset)[labelled])
    return selection.choose(dataset, labelled, config.limit, config.seed), len(labelled)


def _say_images(config: RankConfig, whole: Dataset, chosen: Dataset, available: int, story: Story) -> None:
    left_out = len(whole) - available
    story.say(
        f"{len(whole)} images, {len(whole.classes)} classes; "
        + (
            f"{left_out} are left out: the test split of `tlkit finetune` with the same --val, --test and --seed, on "
            "which no choice may depend"
            if left_out
            else "no test split to leave out"
        )
    )
    if len(chosen) < available:
        story.say(f"{len(chosen)} of {available} are used (--limit {config.limit}), each class in proportion")


def _say_single(classes: Sequence[str], story: Story) -> None:
    if classes:
        more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
        what = "classes with a single image (or group, or set of copies), whose images count as wrong"
        story.say(f"{what}: {', '.join(classes[:5])}{more}")


def _rule(images: int, available: int, config: RankConfig) -> str:
    if images == available:
        return f"All {images} images outside the test split."
    return (
        f"{images} of {available} images outside the test split, each class in proportion, chosen by content "
        f"(seed {config.seed})."
    )


# -- a candidate -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Contestant:
    """A candidate and its features of the images."""

    wanted: Wanted
    size: tuple[int, int]
    parameters: int
    source: FeatureSource
    found: Extraction

    def features(self, kept: np.ndarray) -> np.ndarray:
        """float32 (n, C) of the images that could be read."""
        return self.found.rows.flat(kept)

    def scored(self, dataset: Dataset, kept: np.ndarray, deals: list[np.ndarray]) -> choose.BackboneScores:
        """The scores of its features."""
        started = time.monotonic()
        features = self.features(kept)
        found = choose.score(features, dataset.truth, len(dataset.classes), deals)
        return choose.BackboneScores(
            name=self.wanted.name,
            flags=shlex.join(self.wanted.flags),
            image_size=self.size,
            parameters=self.parameters,
            features=features.shape[1],
            score=found,
            computed=self.found.passes,
            seconds=self.found.seconds + time.monotonic() - started,
        )

    def timed(self, random: np.random.Generator) -> Any:
        """A forward pass of a batch of noise, to be timed, in the fastest float32 engine on this machine."""
        pixels = random.integers(0, 256, (BATCH, *self.size, 3), dtype=np.uint8)
        plain = (self.source.engine_name, self.source.precision) == ("auto", "float32")
        source = self.source if plain else replace(self.source, engine_name="auto", precision="float32")
        return lambda: source.engine.run(pixels)


def _expected(entries: list[choose.BackboneScores], dataset: Dataset) -> dict[str, Metric]:
    """The accuracy expected after fine-tuning, by name, if the prediction model covers this kind of task."""
    if dataset.task.score_name != MEASURE:
        return {}
    scores = [one.score for one in entries]
    found = after_tuning([float(one.shares.mean()) for one in scores], [one.explained for one in scores], len(dataset))
    return dict(zip((one.name for one in entries), found, strict=True))


def _look(
    config: RankConfig, wanted: list[Wanted], dataset: Dataset, levels: Levels | None, story: Story
) -> tuple[list[_Contestant], list[Skipped]]:
    """The features of each candidate, computed if not in the store; and the candidates that could not be loaded."""
    found: list[_Contestant] = []
    unopened: list[Skipped] = []
    for one in wanted:
        story.begin(one.name)
        try:
            backbone = build_backbone(
                one.backbone, weights=one.weights, image_size=one.image_size, seed=config.seed, story=story
            )
        except TlkitError as error:  # a damaged file does not affect the other candidates
            if len(wanted) == 1:
                raise
            unopened.append(Skipped(one.name, error.message.rstrip("."), error.hint))
            _say_skipped(unopened[-1], story)
            continue
        found.append(_looked(config, one, backbone, dataset, levels, story))
    if not found:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in unopened)
        raise TlkitError(f"no candidate can be opened: {reasons}.", unopened[0].remedy)
    return found, unopened


def _looked(
    config: RankConfig, wanted: Wanted, backbone: Backbone, dataset: Dataset, levels: Levels | None, story: Story
) -> _Contestant:
    height, width = backbone.image_size
    contract = InputContract(height=height, width=width, fit=config.fit, levels=levels)
    source = FeatureSource.of_backbone(backbone, contract).asked(config)
    found = source.extract(dataset, story=story)
    story.say(f"{wanted.name} at {height}x{width}: {found.sentence()}")
    return _Contestant(wanted, backbone.image_size, int(backbone.model.count_params()), source, found)


def _milliseconds(contestants: list[_Contestant]) -> dict[str, list[float]]:
    """Milliseconds per image of each candidate, timed in alternation."""
    random = np.random.default_rng(0)
    return choose.in_turn({one.wanted.name: one.timed(random) for one in contestants}, BATCH)


# -- how many ----------------------------------------------------------------------------------


def _curve(
    config: RankConfig,
    contestants: list[_Contestant],
    chosen: RankedBackbone,
    dataset: Dataset,
    kept: np.ndarray,
    available: int,
    story: Story,
) -> LearningCurve:
    """The learning curve of a linear head on the recommended candidate's features."""
    features = next(one for one in contestants if one.wanted.name == chosen.name).features(kept)
    units, classes = selection.units_of(dataset), len(dataset.classes)
    measured = curve.measure(features, dataset.truth, units, classes, config.seed)
    gains = curve.class_gains(measured, dataset.classes, dataset.class_counts())
    first, advice = curve.first_class(gains)
    trouble = curve.why_not(measured)
    found = LearningCurve(
        candidate=chosen.name,
        points=measured.points(),
        trouble=trouble,
        classes=gains,
        first=first,
        advice=advice,
    )
    if trouble:
        return found
    images = [float(times * available) for times in TIMES]
    law, metrics = curve.forecast(measured, images, config.seed)
    story.detail(f"error(n) = {law.floor:.4f} + {law.reducible:.4f} * (n / {law.reference:.0f})^-{law.rate:.3f}")
    forecasts = [Forecast(times, round(size), one) for times, size, one in zip(TIMES, images, metrics, strict=True)]
    return LearningCurve(
        **{name: getattr(found, name) for name in ("candidate", "points", "classes", "first", "advice")},
        forecasts=tuple(forecasts),
        reducible=law.reducible,
        rate=law.rate,
        floor=law.floor,
    )


# -- results -----------------------------------------------------------------------------------


def _write(config: RankConfig, out: Path, ranking: Ranking, result: dict[str, Any], dataset: Dataset) -> None:
    """Write rank.json, rank.csv and rank.html: all of them or none."""
    facts = {"data_sha256": dataset.fingerprint(), "seed": config.seed, "versions": versions()}
    page = RankingPage(
        title=Path(config.images).resolve().name,
        ranking=ranking,
        command=runtime.command_line(),
        created=record.now(),
        versions=runtime.versions(),
        fingerprints={"images and labels": dataset.fingerprint()},
        seeds={"everything": config.seed},
        hardware={name: str(value) for name, value in runtime.hardware().items()},
    )
    with replacing_all(out) as made:
        write_json(made / "rank.json", result | facts | {"hardware": runtime.hardware()})
        write_text(made / "rank.csv", as_csv(ranking))
        write_ranking_page(made / "rank.html", page)
