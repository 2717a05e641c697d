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
    """The figures of a run for a paper, by name, drawn with matplotlib from the files in its folder.

    Args:
        run: its folder or the value of `tlkit.load`; also a folder that `tlkit evaluate` wrote.
        names: which ones, see `FIGURES` in `tlkit.report.plates`; by default all that there is data for.
        columns: columns of a journal page that they span: 1 is 89 mm, 2 is 183 mm wide.

    Raises:
        TlkitError: no run, an unknown name, or a named figure without data.
    """
    from tlkit.report.plates import draw

    folder = Path(run["out"] if isinstance(run, dict) else run)
    drawn = draw(folder, names, columns=columns)
    return {plate.name: plate.figure for plate in drawn.plates}
