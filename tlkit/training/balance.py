"""Classes of unequal size: image weights, sampling, logit adjustment, synthetic features; and whether any of it pays.

    none           every image counts the same: the best choice for accuracy on images distributed like these
    weights        an image counts inversely to the size of its class
    sample         images are drawn so that every class occurs equally often
    logit-adjust   the loss sees logits + log prior, so that the plain logits rank as if all classes occurred equally often
                   (Menon et al. 2021, tau = 1)
    post-hoc       the same with tau chosen by cross-validation: less or more than 1 where that is better
    smote, gaussian, gan   features of rare classes are drawn until all are equally large, see `synthesis`

A solved head needs no batches and no steps. The expected loss under `sample` is the loss that `weights` solves; and
as its bias carries no penalty, training it on logits + log prior ends in the unadjusted solution with the log prior
subtracted from its bias, so that adjusting before or after training is the same there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Heard, Story, unheard
from tlkit.data.dataset import Dataset, Splits
from tlkit.data.folds import strata, stratified
from tlkit.evaluation.portrait import portray
from tlkit.options.catalog import SYNTHESIZERS
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import of_truth, row_of
from tlkit.tasks.single import SINGLE
from tlkit.training.plan import Decision, Plan
from tlkit.training.probe import FALLBACK, Probe, fit_one_vs_rest, fit_probe, validate_probe
from tlkit.training.ridge_probe import fit_ridge

if TYPE_CHECKING:
    from tlkit.options.commands import FinetuneConfig
    from tlkit.training.checkpoint import Sink
    from tlkit.training.stages import Material

TAU = 1.0  # of Menon et al.
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # among which post-hoc chooses
ADJUSTING = ("logit-adjust", "post-hoc")
UNEQUAL = 1.5  # the largest class over the smallest; below that there is nothing to balance
RESAMPLES = 500

Drawn = tuple[np.ndarray, np.ndarray]  # features (m, C), labels (m,)


def image_weights(labels: np.ndarray, classes: int, balance: str) -> np.ndarray:
    """Float32 (N,): 1 for all, or for `weights` inversely to the class's frequency, with mean 1."""
    if balance != "weights":
        return np.ones(len(labels), np.float32)
    labels = strata(labels)
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (np.count_nonzero(counts) * counts[labels])).astype(np.float32)


def log_prior(labels: np.ndarray, classes: int, tau: float = TAU) -> np.ndarray:
    """Float32 (K,): tau times the log of each class's frequency; a class without images counts as if it had one."""
    counts = np.maximum(np.bincount(strata(labels), minlength=classes), 1)
    return (tau * np.log(counts / counts.sum())).astype(np.float32)


def drawn_equally(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Int (N,): as many positions as there are images, in rounds that each show one image of every class.

    Each class is dealt like a pack of cards, reshuffled when it is used up: images of a rare class occur several times,
    equally often to within one, and of a frequent class other images are left out in every epoch.
    """
    labels = strata(labels)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rounds = -(-len(labels) // len(members))
    packs = [
        np.concatenate([random.permutation(rows) for _ in range(-(-rounds // len(rows)))])[:rounds] for rows in members
    ]
    return random.permuted(np.stack(packs, axis=1), axis=1).ravel()[: len(labels)]


def solve(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    balance: str,
    units: np.ndarray,
    strength: float | None = None,
    seed: int = 0,
    tau: float = TAU,
    heard: Heard = unheard,
) -> Probe:
    """The linear head on all views, solved as its task requires, see `SOLVERS`; single classes are balanced."""
    solver = row_of(SOLVERS, of_truth(labels))
    if solver is not None:
        return solver(views, labels, units=units, strength=strength, seed=seed)
    if balance in SYNTHESIZERS:
        named = strata(labels)
        return solve_with(draw(balance, views[0], named, seed), views, named, units=units, strength=strength, seed=seed)
    classes = int(strata(labels).max()) + 1  # every class is among them
    weights = image_weights(labels, classes, "weights" if balance == "sample" else balance)
    probe = fit_probe(views, strata(labels), units=units, weights=weights, strength=strength, seed=seed, heard=heard)
    return probe.shifted(-log_prior(labels, classes, tau)) if balance in ADJUSTING else probe


def solved(material: "Material", heard: Heard) -> Probe:
    """The linear head of a run on its training images, and on the features drawn for rare classes."""
    views, config, labels = material.views["features"], material.config, material.labels("train")
    pooled, units = [view.pooled() for view in views], material.groups[material.rows("train")]
    strength = 1 / (config.l2 * len(labels)) if config.l2 else None
    if material.drawn is not None:
        return solve_with(material.drawn, pooled, strata(labels), units=units, strength=strength, seed=config.seed)
    given: dict[str, Any] = {"balance": config.balance, "tau": material.tau, "heard": heard}
    return solve(pooled, labels, units=units, strength=strength, seed=config.seed, **given)


def draw(balance: str, features: np.ndarray, labels: np.ndarray, seed: int = 0) -> Drawn:
    """Features (m, C) of the training images' rare classes and their labels (m,), drawn as `synthesis` says."""
    return getattr(import_module(SYNTHESIZERS[balance]), f"draw_{balance}")(features, labels, seed)


def solve_with(
    drawn: Drawn,
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    units: np.ndarray,
    strength: float | None = None,
    seed: int = 0,
) -> Probe:
    """The head on images and features drawn for rare classes; the penalty is chosen on the images, with classes weighted equally."""
    if strength is None:
        weights = image_weights(labels, int(labels.max()) + 1, "weights")
        found = validate_probe(views[0], labels, units=units, weights=weights, seed=seed)
        strength = found.best if found else FALLBACK
    more, named = drawn
    together, alone = np.concatenate([labels, named]), np.arange(len(labels) + len(named))
    of_all = [np.concatenate([view, more]) for view in views]
    return fit_probe(of_all, together, units=alone, strength=strength * len(labels) / len(together), seed=seed)


SOLVERS: dict[str, Callable[..., Probe] | None] = {
    SINGLE.name: None,
    MULTI.name: fit_one_vs_rest,
    ORDINAL.name: None,
    NUMBER.name: fit_ridge,
}
"""One row for each task; None where classes may be balanced."""


# -- choosing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class BalanceChoice:
    """How classes are balanced.

    Args:
        balance: the name.
        reason: why, with the numbers.
        macro_f1: of each way tried, cross-validated; empty where none was.
        balanced_accuracy: likewise.
        tau: strength of an adjustment of the logits.
    """

    balance: str
    reason: str
    macro_f1: dict[str, float]
    balanced_accuracy: dict[str, float] = field(default_factory=dict)
    tau: float = TAU


def near_enough(counts: np.ndarray) -> str:
    """Why classes of these sizes, int (K,), need no balancing; "" where they may."""
    equal = counts.max() < UNEQUAL * counts.min()
    return f"classes of {counts.min()} to {counts.max()} training images are nearly equal" if equal else ""


def choose(
    features: np.ndarray, labels: np.ndarray, *, classes: int, units: np.ndarray, seed: int = 0
) -> BalanceChoice:
    """The way with the best mean of macro-F1 and balanced accuracy of a linear head, cross-validated on the training images.

    Predictions on all held-out images are pooled before the score is computed: a fold may hold one image of a rare
    class, the training split holds them all. A way other than `none` has to be ahead by more than a standard error of
    the difference (bootstrap over units, both ways on the same draws). `sample`, which is trained like another way, and
    `synthesis`, which has nowhere been better than these, are not tried.

    Args:
        features: float32 (N, C), of the training images themselves.
        labels: int (N,), every class present.
        classes: K.
        units: int (N,); images of one unit share a fold.
        seed: of the folds and the bootstrap.
    """
    equal = near_enough(np.bincount(labels, minlength=classes))
    if equal:
        return BalanceChoice("none", equal, {})
    plain, weighted = (
        validate_probe(features, labels, units=units, weights=image_weights(labels, classes, balance), seed=seed)
        for balance in ("none", "weights")
    )
    if plain is None or weighted is None:
        return BalanceChoice("none", "a class has too few training images for cross-validation", {})
    tau, adjusted = _adjusted(plain.logits, labels, classes, stratified(labels, units, seed))
    logits = {
        "none": plain.logits,
        "weights": weighted.logits,
        "logit-adjust": plain.logits - log_prior(labels, classes),
        "post-hoc": adjusted,
    }
    judged = np.isfinite(plain.logits).all(axis=1)
    guesses = {name: values[judged].argmax(axis=1) for name, values in logits.items()}
    truth, once = labels[judged], np.ones((1, int(judged.sum())))
    scores = {name: float(macro_f1(once, truth, guess, classes)[0]) for name, guess in guesses.items()}
    recalls = {name: float(balanced_accuracy(once, truth, guess, classes)[0]) for name, guess in guesses.items()}
    ahead = _ahead(guesses, truth, _draws(units[judged], seed), classes)
    shown = ", ".join(f"{name} {scores[name]:.3f} and {recalls[name]:.3f}" for name in guesses)
    found = f"macro-F1 and balanced accuracy of a linear head, cross-validated: {shown}"
    best = max(scores, key=lambda name: scores[name] + recalls[name])
    if best == "none":
        return BalanceChoice("none", found, scores, recalls)
    clearly = (scores[best] + recalls[best] - scores["none"] - recalls["none"]) / 2 > ahead[best]
    outcome = f"{best} is {'ahead of' if clearly else 'not clearly ahead of'} none (standard error {ahead[best]:.3f})"
    outcome += f", tau {tau:g}" if best == "post-hoc" else ""
    return BalanceChoice(best if clearly else "none", f"{found}; {outcome}", scores, recalls, tau)


def choose_strength(
    features: np.ndarray, labels: np.ndarray, *, classes: int, units: np.ndarray, seed: int = 0
) -> BalanceChoice:
    """Post-hoc adjustment with its strength by cross-validation; 1 where a class has too few images for that.

    Args:
        features: float32 (N, C), of the training images themselves.
        labels: int (N,).
        classes: K.
        units: int (N,); images of one unit share a fold.
        seed: of the folds.
    """
    plain = validate_probe(features, labels, units=units, weights=np.ones(len(labels), np.float32), seed=seed)
    if plain is None:
        return BalanceChoice("post-hoc", f"tau {TAU:g}: a class has too few images for cross-validation", {})
    tau, _ = _adjusted(plain.logits, labels, classes, stratified(labels, units, seed))
    reason = f"tau {tau:g} has the best macro-F1 and balanced accuracy of a linear head in cross-validation"
    return BalanceChoice("post-hoc", reason, {}, tau=tau)


def _adjusted(
    logits: np.ndarray, labels: np.ndarray, classes: int, folds: Sequence[np.ndarray]
) -> tuple[float, np.ndarray]:
    """The best tau; and float32 (N, K) logits, of each fold adjusted by the tau that is best on all the others."""

    def best(rows: np.ndarray) -> float:
        rows = rows[np.isfinite(logits[rows]).all(axis=1)]
        once, found = np.ones((1, len(rows))), {}
        for tau in TAUS:
            guess = (logits[rows] - log_prior(labels, classes, tau)).argmax(axis=1)
            scores = (way(once, labels[rows], guess, classes)[0] for way in (macro_f1, balanced_accuracy))
            found[tau] = round(float(sum(scores)), 9)
        return max(found, key=lambda tau: (found[tau], -tau))

    adjusted = np.full_like(logits, np.nan)
    for held in folds:
        adjusted[held] = logits[held] - log_prior(labels, classes, best(np.flatnonzero(~held)))
    return best(np.arange(len(labels))), adjusted


def _ahead(guesses: Mapping[str, np.ndarray], labels: np.ndarray, draws: np.ndarray, classes: int) -> dict[str, float]:
    """Standard error of the lead of each way over `none`, in the mean of macro-F1 and balanced accuracy."""
    drawn = {
        name: (macro_f1(draws, labels, guess, classes) + balanced_accuracy(draws, labels, guess, classes)) / 2
        for name, guess in guesses.items()
    }
    return {name: float(np.std(values - drawn["none"], ddof=1)) for name, values in drawn.items()}


def _draws(units: np.ndarray, seed: int) -> np.ndarray:
    """Int (R, N): how often each image is in each bootstrap sample; units are drawn whole."""
    numbers = np.unique(units, return_inverse=True)[1].ravel()
    count = numbers.max() + 1
    random = np.random.default_rng((seed, 2))
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, numbers]


def macro_f1(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Float (R,): the mean over classes of F1, images counted by `weights` (R, N); 0 for a class with no true positive."""
    weights = weights.astype(np.float64)
    each = np.arange(classes)
    truth, guess = labels[:, None] == each, predicted[:, None] == each
    right = weights @ (truth & guess)
    total = weights @ truth + weights @ guess
    return np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0).mean(axis=1)


def balanced_accuracy(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Float (R,): the mean recall of the classes that a draw has, images counted by `weights` (R, N)."""
    weights = weights.astype(np.float64)
    truth = labels[:, None] == np.arange(classes)
    right, total = weights @ (truth & (predicted == labels)[:, None]), weights @ truth
    recall = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
    return recall.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)


# -- `--balance auto`: settled once features are computed, and kept with the results of training ----


def foreseen(dataset: Dataset, splits: Splits) -> Decision:
    """The entry in the plan, before there are features."""
    reason = _needless(dataset, splits.indices("train"))
    if reason:
        return Decision("balance", "none", reason)
    how = "the best of none, weights, logit-adjust and post-hoc for a linear head, once features are computed"
    return Decision("balance", "by cross-validation", how)


def settled(material: "Material", sink: "Sink", story: Story) -> "Material":
    """The material with the balance settled: measured where `auto` asks for it, recalled when resuming."""
    if material.config.balance in SYNTHESIZERS:
        return _drawn(material, sink, story)
    if material.config.balance not in MEASURED:
        return material
    known = sink.read("balance")
    choice = BalanceChoice(**known) if known else _measured(material)
    sink.write("balance", asdict(choice))
    story.say(describe(choice))
    return replace(material, config=replace(material.config, balance=choice.balance), tau=choice.tau)


def _drawn(material: "Material", sink: "Sink", story: Story) -> "Material":
    """The material with features drawn for rare classes; their comparison with real ones is kept for the report."""
    way, seed, labels = material.config.balance, material.config.seed, strata(material.labels("train"))
    features = material.views["features"][0].pooled()
    more, named = draw(way, features, labels, seed)
    if sink.read("synthesis") is None:
        paths = [material.dataset.paths[row] for row in material.rows("train")]
        sink.write("synthesis", portray(way, (features, labels), (more, named), paths, seed).as_json())
    story.say(f"balance {way}: {len(named)} features drawn for {len(np.unique(named))} classes")
    return replace(material, drawn=(more, named))


MEASURED = ("auto", "post-hoc")
"""Ways that are measured once features are computed."""


def refuse_synthesis(config: "FinetuneConfig", plan: Plan) -> None:
    """Raise where features are to be drawn for a head that is not solved on features, or for stages that see pixels.

    Raises:
        TlkitError: saying what to use instead.
    """
    names = [stage.name for stage in plan.stages]
    if config.balance in SYNTHESIZERS and (names != ["head"] or plan.stages[0].method != "lbfgs"):
        raise TlkitError(
            f"--balance {config.balance} draws features for a linear head that is solved, but the stages are {','.join(names)}.",
            "use it with --stages head and --head linear, or use --balance weights, which draws no features.",
        )


def notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes for the report from the record of a run; none where there was nothing to settle."""
    return (describe(BalanceChoice(**record["balance"])),) if "balance" in record else ()


def describe(choice: BalanceChoice) -> str:
    """The choice in a sentence."""
    return f"balance {choice.balance}: {choice.reason}"


def _measured(material: "Material") -> BalanceChoice:
    rows, asked = material.rows("train"), material.config.balance
    reason = _needless(material.dataset, rows) if asked == "auto" else ""
    if reason:
        return BalanceChoice("none", reason, {})
    stored = next(iter(material.views.get("features", ())), None)  # view 0: the images themselves
    if stored is None:
        return BalanceChoice("none" if asked == "auto" else asked, "no features are stored to measure it on", {})
    way, units = choose if asked == "auto" else choose_strength, material.groups[rows]
    return way(
        stored.pooled(),
        strata(material.dataset.labels[rows]),
        classes=material.classes,
        units=units,
        seed=material.config.seed,
    )


def _needless(dataset: Dataset, train: np.ndarray) -> str:
    """Why there is nothing to measure, "" where there may be."""
    if not dataset.task.can("balance"):
        return dataset.task.unbalanced
    counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
    if not counts.all():
        return "a class has no training images"
    return near_enough(counts)
