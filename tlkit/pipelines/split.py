r"""`tlkit split`: images in; a table with the split of each out.

tlkit split images --group-by '(S\d+)_' --out splits.csv
tlkit finetune splits.csv
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import Texts
from tlkit.base.story import Phase, Silence, Story
from tlkit.data.clips import Sampling, for_table, holds_clips, refuse_fixes, scan_clips
from tlkit.data.dataset import SPLITS, Dataset
from tlkit.data.decode import check, set_aside
from tlkit.data.scan import labelling, scan
from tlkit.data.split import fixing, split
from tlkit.options.commands import SplitConfig
from tlkit.runs.folder import refuse_occupied
from tlkit.tasks.labels import SEPARATOR


def run(config: SplitConfig, story: Story | None = None) -> dict[str, Any]:
    """Decode every image once, set unreadable ones aside, split the rest and write a manifest with absolute paths.

    Returns:
        `out`, `images`, `set_aside`, `splits` (name -> count), `rule`.

    Raises:
        TlkitError: for no usable image, an occupied `out`, a class name that would read as several labels in the table.
    """
    story, out = story or Silence(), Path(config.out)
    refuse_occupied(out, overwrite=config.overwrite)
    story.expect(Phase("reading files", 0.2, 1e-3), Phase("decoding", 0.1, 4e-3))
    dataset = _readable(config, story)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)
    spelt = {
        name: column for name, column in dataset.task.spelt(dataset.truth, dataset.classes).items() if name != "label"
    }
    table = replace(dataset, given=splits.codes, extra=dataset.extra | spelt)
    table = for_table(table)
    replace(table, paths=Texts.of(str((table.root / path).resolve()) for path in table.paths)).write_csv(out)
    story.say(f"{out}: {len(dataset)} {dataset.samples}; split {splits.rule}")
    return {
        "out": str(out),
        "images": len(dataset),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "splits": {name: len(splits.indices(name)) for name in SPLITS},
        "rule": splits.rule,
    }


def _readable(config: SplitConfig, story: Story) -> Dataset:
    """The images that can be decoded, or the clips with at least one such frame."""
    sampling = Sampling(config.frames, config.stride or 1, config.samples_are_clips)
    if holds_clips(config.images, sampling, config.group_by):
        refuse_fixes(config.fixes)
        found = scan_clips(config.images, sampling, **labelling(config), group_by=config.group_by, story=story)
        _refuse_separators(found)
        return set_aside(found, [], config.on_bad)
    dataset = scan(config.images, **labelling(config), group_by=config.group_by, fixes=fixing(config), story=story)
    _refuse_separators(dataset)
    return set_aside(dataset, check(dataset, story=story), config.on_bad)


def _refuse_separators(dataset: Dataset) -> None:
    """Refuse class names such as `a|b`, which in a table mean two labels."""
    name = next((name for name in dataset.classes if SEPARATOR in name), None)
    if name is not None:
        raise TlkitError(
            f"the class {name!r} holds {SEPARATOR!r}, which joins several labels of an image in a table.",
            "rename the folder.",
        )
