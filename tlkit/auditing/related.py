"""Images that belong together: copies of one picture, and clips, bursts and subjects that were not declared."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tlkit.auditing.duplicates import connected
from tlkit.auditing.evidence import Evidence, counted, fit_probe, share, unlearnable
from tlkit.auditing.findings import Finding, ImageGroup
from tlkit.base.story import percent
from tlkit.data.dataset import SPLITS
from tlkit.data.look import Looks
from tlkit.data.split import group_pattern, match_groups
from tlkit.options import advice

# -- the same picture across splits, across classes, or more than once in one ----------------------

TRAIN = SPLITS.index("train")
MANY_CONFLICTS = 0.01  # of the images
FEW_LEAKS = 0.01  # of the images of val or test: below it the results hardly change


def check_copies(evidence: Evidence) -> Iterator[Finding]:
    """One finding for copies across splits, one for copies across classes, one for the rest."""
    groups = _groups(evidence.pictures)
    across_splits = [rows for rows in groups if len(set(evidence.codes[rows].tolist()) - {-1}) > 1]
    across_classes = [rows for rows in groups if len({evidence.dataset.label_name(row) for row in rows} - {""}) > 1]
    reported = {int(rows[0]) for rows in (*across_splits, *across_classes)}
    yield from _leaks(evidence, across_splits)
    yield from _conflicts(evidence, across_classes)
    yield from _repeats(evidence, [rows for rows in groups if int(rows[0]) not in reported])


def _groups(pictures: np.ndarray) -> list[np.ndarray]:
    """Rows of every picture that occurs more than once."""
    order = np.argsort(pictures, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(pictures[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _leaks(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    codes = evidence.codes
    in_train = np.zeros(len(evidence), bool)
    for rows in groups:
        in_train[rows] = (codes[rows] == TRAIN).any()
    counts = {
        split: (int((in_train & (codes == code)).sum()), int((codes == code).sum()))
        for code, split in enumerate(SPLITS)
        if code != TRAIN and (codes == code).any()
    }
    leaked = ", ".join(
        f"{part:,} of {whole:,} {split} images ({share(part, whole)})"
        for split, (part, whole) in counts.items()
        if part
    )
    verb = "is" if sum(part for part, _ in counts.values()) == 1 else "are"
    where = f"{leaked} {verb} also in train" if leaked else "val and test share them"
    identical = sum(_identical(evidence, rows) for rows in groups)
    worst = max((part / whole for part, whole in counts.values()), default=0.0)
    yield Finding(
        check="copies",
        severity="serious" if worst > FEW_LEAKS else "warning",
        sentence=(
            f"{counted(len(groups), 'picture lies', 'pictures lie')} on both sides of the split "
            f"({identical:,} of them byte for byte): {where}, which makes results too optimistic."
        ),
        remedy=(
            "Drop the copies from train; the file of fixes lists them."
            if evidence.given
            else "Keep copies on one side of the split: the table that the audit wrote names a group for each picture."
        ),
        command=_leak_command(evidence),
        groups=_shown(evidence, groups),
        facts={"kind": "splits", "pictures": len(groups), "identical": identical, "leaked": counts},
    )


def _leak_command(evidence: Evidence) -> str:
    """In a run, audit with the network of the run first: another finds other copies, and the remedy never ends."""
    if evidence.given:
        fixes = advice.free("fixes.csv")
        return f"{evidence.audit_into_fixes()} && {evidence.finetune('--fixes', fixes)}"
    if evidence.grouped_file:
        return evidence.grouped_command
    grouped = f"{advice.free('audit')}/grouped.csv"
    return f"{advice.audit(evidence.asked, evidence.images)} && {advice.finetune(evidence.asked, grouped, own=False)}"


def _conflicts(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    identical = [rows for rows in groups if _contradicts_itself(evidence, rows)]
    near = [rows for rows in groups if not _contradicts_itself(evidence, rows)]
    where = evidence.dataset.task.conflict
    many = sum(map(len, identical)) > MANY_CONFLICTS * len(evidence)
    yield Finding(
        check="copies",
        severity="serious" if many else "warning",
        sentence=(
            f"{counted(len(groups), 'picture is', 'pictures are')} {where} ({len(identical):,} of them byte for "
            "byte): one of the labels is wrong, or the classes are hard to distinguish."
        ),
        remedy="Look at them and keep the right one; the file of fixes drops those that are byte for byte.",
        command=evidence.audit_into_fixes(),
        groups=(*_shown(evidence, identical), *(replace(group, score=None) for group in _shown(evidence, near))),
        facts={"kind": "classes", "pictures": len(groups), "identical": len(identical)},
    )


def _contradicts_itself(evidence: Evidence, rows: np.ndarray) -> bool:
    """Whether the same file has two labels."""
    named = {(int(evidence.first_copy[row]), evidence.dataset.label_name(row)) for row in rows}
    return len({first for first, _ in named}) < len(named)


def _repeats(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    identical = sum(_identical(evidence, rows) for rows in groups)
    yield Finding(
        check="copies",
        severity="note",
        sentence=(
            f"{counted(len(groups), 'picture occurs', 'pictures occur')} more than once in one class and split "
            f"({identical:,} of them byte for byte): they count more than others."
        ),
        remedy="Drop the copies if they are not intended; the file of fixes lists those that are byte for byte.",
        command=evidence.audit_into_fixes(),
        groups=_shown(evidence, groups),
        facts={"kind": "repeats", "pictures": len(groups), "identical": identical},
    )


def _identical(evidence: Evidence, rows: np.ndarray) -> bool:
    """Whether two of them are the same file."""
    return len(np.unique(evidence.first_copy[rows])) < len(rows)


def _shown(evidence: Evidence, groups: list[np.ndarray]) -> tuple[ImageGroup, ...]:
    left, _, agreement = evidence.pairs
    best = np.zeros(len(evidence))
    np.maximum.at(best, evidence.pictures[left], agreement)
    found = []
    for rows in groups:
        exact = _identical(evidence, rows)
        score = 1.0 if exact else float(best[evidence.pictures[rows[0]]])
        found.append(evidence.group(rows, "byte for byte" if exact else f"agreement {score:.2f}", score=score))
    return tuple(sorted(found, key=lambda group: -(group.score or 0)))


# -- groups from file names, times and neighbours --------------------------------------------------

LIFT = 2.5  # times as often as by chance that a neighbour is of the same group
PAIRS = 30  # neighbours of the same group, at least
LEAST_GROUPS, MOST_GROUPS = 4, 0.7  # fewer groups cannot be split; more than this share of the images are not groups
TOGETHER = 0.5  # of the images are in a group with others
LEAKS = 0.03  # accuracy that is lost when groups stay whole
BURST_SECONDS = 3
EXAMPLES = 8


@dataclass(frozen=True)
class Grouping:
    """A way to group paths by name.

    Args:
        pattern: a regular expression for `--group-by`.
        names: the group of every path.
        numbers: int64 (N,), the same as numbers.
    """

    pattern: str
    names: list[str]
    numbers: np.ndarray

    @property
    def count(self) -> int:
        """How many groups."""
        return int(self.numbers.max()) + 1


def check_groups(evidence: Evidence) -> Iterator[Finding]:
    """A grouping by name that nearest neighbours support; images taken within seconds of each other."""
    if evidence.dataset.groups is None:
        found = suggested_grouping(evidence)
        if found is not None:
            yield _by_name(evidence, *found)
    yield from _by_time(evidence)


# -- names -------------------------------------------------------------------------------------


def suggested_grouping(evidence: Evidence) -> tuple[Grouping, float] | None:
    """The coarsest grouping by name whose members are alike, and its `lift`."""
    candidates = groupings(evidence.dataset.paths)
    for place, grouping in enumerate(candidates):
        finer = candidates[place + 1] if place + 1 < len(candidates) else None
        times = lift(evidence, grouping.numbers, None if finer is None else finer.numbers)
        if times >= LIFT:
            return grouping, times
    return None


def groupings(paths: Sequence[str]) -> list[Grouping]:
    """Groupings by the first parts of names, by folders below the class and by a counter at the end; coarse to fine."""
    found: dict[int, Grouping] = {}
    for pattern in _patterns(paths):
        names = [match[1] if (match := re.search(pattern, path)) else "" for path in paths]
        if "" in names:
            continue
        numbers = np.unique(np.array(names), return_inverse=True)[1].ravel()
        grouping = Grouping(pattern, names, numbers)
        sizes = np.bincount(numbers)
        together = sizes[sizes > 1].sum() >= TOGETHER * len(paths)
        if LEAST_GROUPS <= grouping.count <= MOST_GROUPS * len(paths) and together:
            found.setdefault(grouping.count, grouping)
    return [found[count] for count in sorted(found)]


def _patterns(paths: Sequence[str]) -> Iterator[str]:
    """Patterns worth trying, the simplest first."""
    names = [path.rpartition("/")[2] for path in paths]
    stems = [name.rpartition(".")[0] or name for name in names]
    for separator in _separators(stems):
        sign = re.escape(separator)
        tokens = [stem.split(separator) for stem in stems]
        for count in range(1, min(4, max(map(len, tokens)))):
            yield from _numbered([parts[:count] for parts in tokens], sign)
            yield (
                rf"([^/{sign}]+(?:{sign}[^/{sign}]+){{0,{count - 1}}})[^/]*$" if count > 1 else rf"([^/{sign}]+)[^/]*$"
            )
    if all(path.count("/") >= 2 for path in paths):
        yield r"([^/]+)/[^/]+$"
    yield r"([^/]*[^/\d])\d+\.\w+$"


def _separators(stems: list[str]) -> list[str]:
    """Signs that split most names."""
    return [sign for sign in "_-. " if sum(sign in stem for stem in stems) >= 0.5 * len(stems)]


def _numbered(tokens: list[list[str]], sign: str) -> Iterator[str]:
    r"""`(S\d+_\d+)_` where the first parts of all names are letters, always the same, and a number."""
    parts = []
    for column in zip(*tokens, strict=False):
        letters = {re.sub(r"\d+$", "", token) for token in column}
        if len(letters) > 1 or not all(token[-1:].isdigit() for token in column):
            return
        parts.append(re.escape(letters.pop()) + r"\d+")
    if parts and all(len(parts) == len(token) for token in tokens):
        yield f"({sign.join(parts)}){sign}"


def lift(evidence: Evidence, groups: np.ndarray, finer: np.ndarray | None) -> float:
    """How many times as often as by chance a near image is of the same group, given the classes.

    Pairs that already share a finer group do not count, so that clips do not make subjects look alike.
    0 where there are too few pairs to say.
    """
    near = evidence.neighbours.indices
    left, right = np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()
    labels = evidence.dataset.labels - evidence.dataset.labels.min()
    chance = _chance(labels, groups, finer)[labels[left], labels[right]]
    same = groups[left] == groups[right]
    if finer is not None:
        counted_pairs = finer[left] != finer[right]
        same, chance = same[counted_pairs], chance[counted_pairs]
    return float(same.sum() / max(chance.sum(), 1e-9)) if same.sum() >= PAIRS else 0.0


def _chance(labels: np.ndarray, groups: np.ndarray, finer: np.ndarray | None) -> np.ndarray:
    """float64 (K, K): the share of pairs of two classes that share a group, of those that share no finer one."""
    from scipy.sparse import coo_array

    count = labels.max() + 1
    ones = np.ones(len(labels))

    def pairs(numbers: np.ndarray) -> np.ndarray:
        table = coo_array((ones, (numbers, labels))).tocsr()
        return (table.T @ table).toarray() - np.diag(np.bincount(labels, minlength=count))

    sizes = np.bincount(labels, minlength=count).astype(float)
    every = np.outer(sizes, sizes) - np.diag(sizes)
    known = pairs(finer) if finer is not None else np.zeros_like(every)
    return (pairs(groups) - known) / np.maximum(every - known, 1)


def _by_name(evidence: Evidence, grouping: Grouping, times: float) -> Finding:
    pattern = group_pattern(grouping.pattern)
    names = match_groups(pattern, evidence.dataset.paths)  # the function that --group-by uses
    numbers = np.unique(np.array(names), return_inverse=True)[1].ravel()
    straddling, scores, severity = _judged(evidence, numbers)
    common = Counter(names).most_common(EXAMPLES)
    members = {name: [row for row, own in enumerate(names) if own == name][:6] for name, _ in common}
    return Finding(
        check="groups",
        severity=severity,
        sentence=(
            f"File names form {grouping.count:,} groups (such as {common[0][0]!r}), and images of a group are alike: near "
            f"images share it {times:.0f} times as often as by chance; {_split_over(straddling)}{_accuracy_note(scores)}"
        ),
        remedy="If a group is a film, a subject or a place, keep it on one side of the split; otherwise the results are too optimistic.",
        command=evidence.finetune("--group-by", grouping.pattern),
        groups=tuple(
            evidence.group(members[name], f"group {name!r} of {counted(count, 'image')}", score=count)
            for name, count in common
        ),
        facts={
            "group_by": grouping.pattern,
            "groups": grouping.count,
            "lift": times,
            "straddling": straddling,
            "accuracy": scores,
        },
    )


def _split_over(straddling: int) -> str:
    return f"{counted(straddling, 'group is', 'groups are')} on both sides of the split."


def _accuracy_note(scores: dict[str, float]) -> str:
    """How keeping groups whole changes the accuracy, "" where it could not be measured."""
    if not scores:
        return ""
    return (
        f" A probe classifies {percent(scores['random'], 1)} correctly when images are split at random, and "
        f"{percent(scores['grouped'], 1)} when groups stay whole."
    )


def _judged(evidence: Evidence, numbers: np.ndarray) -> tuple[int, dict[str, float], str]:
    """Groups on both sides of the split, the accuracies of `_accuracies`, and the severity; `numbers` int (N,) are the groups."""
    straddling, scores = _straddling(evidence.codes, numbers), _accuracies(evidence, numbers)
    leaks = bool(scores) and scores["random"] - scores["grouped"] > LEAKS
    return straddling, scores, "serious" if leaks and straddling else "warning"


def _straddling(codes: np.ndarray, numbers: np.ndarray) -> int:
    """Groups with images of more than one split."""
    seen = np.unique(np.stack([numbers, codes], axis=1), axis=0)[:, 0]
    return int((np.bincount(seen) > 1).sum())


def _accuracies(evidence: Evidence, numbers: np.ndarray) -> dict[str, float]:
    """Out-of-fold accuracy of the probe with images assigned to folds at random, and with groups kept whole."""
    if unlearnable(evidence):
        return {}
    rows = evidence.labelled
    labels = evidence.dataset.labels[rows]
    found = {}
    for name, units in {"random": np.arange(len(rows)), "grouped": numbers[rows]}.items():
        probe = fit_probe(evidence.features[rows], labels, units, evidence.seed)
        found[name] = float((probe.predicted == labels).mean())
    return found


# -- times -------------------------------------------------------------------------------------


def bursts(looks: Looks) -> list[np.ndarray]:
    """Rows of images of one camera that were taken seconds apart, in order of time; bursts of two at least."""
    seconds = np.array([_seconds(text) for text in looks.taken.tolist()])
    rows = np.flatnonzero(~np.isnan(seconds))
    rows = rows[np.lexsort((seconds[rows], looks.camera[rows]))]
    close = (np.diff(seconds[rows]) <= BURST_SECONDS) & (looks.camera[rows][1:] == looks.camera[rows][:-1])
    return [burst for burst in np.split(rows, np.flatnonzero(~close) + 1) if len(burst) > 1]


def _by_time(evidence: Evidence) -> Iterator[Finding]:
    """The finding on bursts, and how keeping them whole changes the accuracy."""
    found = sorted(bursts(evidence.looks), key=len, reverse=True)
    if not found:
        return
    numbers = together(evidence.pictures, found)
    straddling, scores, severity = _judged(evidence, numbers)
    yield Finding(
        check="groups",
        severity=severity,
        sentence=(
            f"{counted(sum(map(len, found)), 'image was', 'images were')} taken within {BURST_SECONDS} seconds of "
            f"another by the same camera, in {counted(len(found), 'burst')}; {_split_over(straddling)}{_accuracy_note(scores)}"
        ),
        remedy="Keep a burst on one side of the split; otherwise the results are too optimistic.",
        command=evidence.grouped_command,
        groups=tuple(
            evidence.group(burst.tolist(), f"from {evidence.looks.taken[burst[0]]}", score=len(burst))
            for burst in found
        ),
        facts={"kind": "bursts", "bursts": len(found), "straddling": straddling, "accuracy": scores},
    )


def together(units: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
    """int64 (N,), units merged where a burst holds images of several."""
    rows = np.arange(len(units))
    first = np.unique(units, return_index=True, return_inverse=True)
    ends = first[1][first[2].ravel()]
    left = np.concatenate([rows, *(np.full(len(burst) - 1, burst[0]) for burst in found)])
    right = np.concatenate([ends, *(burst[1:] for burst in found)])
    return connected(len(units), left, right)


def _seconds(text: str) -> float:
    """EXIF time as seconds; NaN where it is none."""
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").timestamp()
    except (ValueError, OverflowError, OSError):
        return float("nan")
