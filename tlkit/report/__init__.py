"""Results to pages and figures, readable offline."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(
    run: "str | PathLike[str] | dict[str, Any]", names: Sequence[str] = (), *, columns: int = 1
) -> "dict[str, Figure]":
    """The figures of a run for a paper, by name, made with matplotlib from what lies in its folder.

    Args:
        run: its folder, or what `tlkit.load` gave; a folder that `tlkit evaluate` wrote as well.
        names: which ones, see `FIGURES` in `tlkit.report.plates`; all that there is data for unless given.
        columns: of a journal's page that they fill: 1 is 89 mm, 2 is 183 mm wide.

    Raises:
        TlkitError: no run, an unknown name, or one asked for by name that nothing was measured for.
    """
    from tlkit.report.plates import draw

    folder = Path(run["out"] if isinstance(run, dict) else run)
    drawn = draw(folder, names, columns=columns)
    return {plate.name: plate.figure for plate in drawn.plates}
