"""Accuracy by slice: on images that share a property, against all the others."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.special import stdtr
from scipy.stats import fisher_exact

from tlkit.evaluation.curves import metric
from tlkit.evaluation.intervals import Groups, share_interval, spread
from tlkit.evaluation.results import Metric, SliceResult

FEWEST = 10  # images a slice must have, and as many beside it
SIGNIFICANT = 0.05
MANY = 10  # different numbers; from there on they are cut into thirds
Column = Sequence[str] | np.ndarray


def slices(columns: Mapping[str, Column], correct: np.ndarray, groups: Groups = None) -> tuple[SliceResult, ...]:
    """Test every slice of enough images for a lower accuracy than the rest.

    Fisher's exact test (1922), one-sided; with groups a t-test on the difference, by group. p-values are
    corrected over all slices tested (Holm 1979), so that with many columns chance alone finds nothing.

    Args:
        columns: name -> one value for each of n images. Text: each value is a slice, "" is none, and texts that
            are all numbers count as such, unless they come as an array. Numbers: each value, or thirds where there are more than `MANY`; NaN
            is none.
        correct: bool (n,).
        groups: int (n,), or None.

    Returns:
        The slices, lowest p-value first.
    """
    tested = []
    for column, values in columns.items():
        for value, inside in _parts(values):
            if FEWEST <= inside.sum() <= len(correct) - FEWEST:
                tested.append((column, value, inside, _p_value(correct, inside, groups)))
    adjusted = holm(np.array([p for *_, p in tested]))
    found = [
        SliceResult(
            column=column,
            value=value,
            accuracy=_accuracy(correct, inside, groups),
            rest=_accuracy(correct, ~inside, groups),
            p_value=float(p),
            worse=bool(p < SIGNIFICANT),
        )
        for (column, value, inside, _), p in zip(tested, adjusted, strict=True)
    ]
    return tuple(sorted(found, key=lambda row: row.p_value))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (m,) corrected for multiple comparisons (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1.0)


def _parts(values: Column) -> Iterator[tuple[str, np.ndarray]]:
    """(what they share, bool (n,)) of each slice of a column."""
    numbers = _numbers(values)
    if numbers is None:
        names = np.asarray(values, dtype=object)
        for name in sorted(set(names.tolist()) - {""}):
            yield name, names == name
        return
    known = numbers[~np.isnan(numbers)]
    different = np.unique(known)
    if len(different) <= MANY:
        for number in different:
            yield f"{number:g}", numbers == number
        return
    lower, upper = np.quantile(known, (1 / 3, 2 / 3))
    yield f"up to {lower:.4g}", numbers <= lower
    yield f"{lower:.4g} to {upper:.4g}", (numbers > lower) & (numbers <= upper)
    yield f"above {upper:.4g}", numbers > upper


def _numbers(values: Column) -> np.ndarray | None:
    """The values as float64 (n,), NaN where there is none; None where they are not numbers."""
    if isinstance(values, np.ndarray):
        return None if values.dtype == object else values.astype(np.float64)
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _accuracy(correct: np.ndarray, inside: np.ndarray, groups: Groups) -> Metric:
    own = None if groups is None else groups[inside]
    return metric(float(correct[inside].mean()), int(inside.sum()), share_interval(correct[inside], own), own)


def _p_value(correct: np.ndarray, inside: np.ndarray, groups: Groups) -> float:
    """That images inside are no harder than the others, one-sided."""
    if groups is None:
        table = [[int((side & hit).sum()) for hit in (correct, ~correct)] for side in (inside, ~inside)]
        return float(fisher_exact(table, alternative="less").pvalue)
    shares = np.where(inside, correct[inside].mean(), correct[~inside].mean())
    sizes = np.where(inside, inside.sum(), -(~inside).sum())
    deviation = spread((correct - shares) / sizes, groups)
    difference = float(correct[inside].mean() - correct[~inside].mean())
    if deviation == 0:
        return 1.0
    return float(stdtr(max(1, len(np.unique(groups)) - 1), difference / deviation))
