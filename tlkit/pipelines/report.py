"""`tlkit report`: a finished run in; publication figures with captions out.

    tlkit report run --figures pdf,png --columns 2 --out figures

The report page, report.html, is written by `tlkit finetune` and rewritten by `tlkit evaluate RUN`.
"""

from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing_all
from tlkit.base.story import Silence, Story, counted
from tlkit.options.commands import ReportConfig
from tlkit.report.plates import FIGURES, draw
from tlkit.runs.folder import RunDir, finished_model


def run(config: ReportConfig, story: Story | None = None) -> dict[str, Any]:
    """Draw every figure that the run has data for, from the files in its folder; nothing is measured again.

    Returns:
        `out`, `figures`: for each its `name`, `files` and `caption`; `left_out`: name -> reason.

    Raises:
        TlkitError: if the run is not finished, or for files of these names in `out` without `overwrite`.
    """
    story, run_folder = story or Silence(), Path(config.run)
    if RunDir(run_folder).record.is_file():
        finished_model(config.run)
    out = Path(config.out) if config.out else run_folder / "figures"
    occupied = [name for name in FIGURES for kind in (*config.figures, "txt") if (out / f"{name}.{kind}").exists()]
    if occupied and not config.overwrite:
        raise TlkitError(f"{str(out)!r} already holds {occupied[0]}.", "choose another --out, or add --overwrite.")
    drawn = draw(run_folder, columns=config.columns)
    made: list[dict[str, Any]] = []
    with replacing_all(out) as folder:
        for plate in story.track(drawn.plates, "drawing", len(drawn.plates)):
            files = [str(out / file.name) for file in plate.write(folder, config.figures)]
            made.append({"name": plate.name, "files": files, "caption": plate.caption})
    for name, reason in drawn.left_out.items():
        story.say(f"{name} is left out: {reason}")
    names = ", ".join(plate.name for plate in drawn.plates) or "the run has data for none"
    story.say(f"{out}: {counted(len(made), 'figure')}, {names}")
    return {"out": str(out), "figures": made, "left_out": drawn.left_out}
