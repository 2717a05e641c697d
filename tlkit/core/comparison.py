"""Two runs side by side on the same images, and whether the difference is real."""

from dataclasses import dataclass, field

from tlkit.core.results import Metric


@dataclass(frozen=True)
class Comparison:
    """What `second` gains over `first` on images that both have predicted.

    Args:
        first, second: names of the runs.
        n: images, matched by content.
        accuracy: of each, first to second.
        differences: metric -> second minus first, with its interval; accuracy in 0..1.
        only_first, only_second: paths of the images that this run alone gets right, as that run names them.
        p_value: that the two are right equally often, two-sided; corrected where several pairs are compared.
        test: what the p-value comes from, in words.
        significant: whether the p-value is below 0.05 and the interval of the accuracy leaves out 0.
        sentence: all of that for a reader.
    """

    first: str
    second: str
    n: int
    accuracy: tuple[Metric, Metric]
    differences: dict[str, Metric]
    only_first: tuple[str, ...] = field(repr=False)
    only_second: tuple[str, ...] = field(repr=False)
    p_value: float
    test: str
    significant: bool
    sentence: str
