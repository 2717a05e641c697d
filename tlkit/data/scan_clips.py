"""Which clips there are: the files of `scan`, folded so that the frames of a clip are one sample."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.data.clips import CLIP, FRAME, Sampling, fold, folder_of
from tlkit.data.dataset import Dataset
from tlkit.data.scan import SILENCE, first_of, listed, read_contents, refuse_none, tell_unexpected
from tlkit.data.table import SUFFIXES, read_table
from tlkit.tasks.task import Task


def scan_clips(
    images: str | Path,
    sampling: Sampling,
    *,
    classes: Sequence[str] | None = None,
    group_by: str | None = None,
    labelled: bool | Task | None = True,
    known: Sequence[str] = (),
    story: Story = SILENCE,
) -> Dataset:
    """List the clips of a folder (a folder of frames inside a class folder) or of a table with a column `clip`.

    Only frames that are taken are read, and each is looked at: one that cannot be decoded is set aside and missing in
    its clip. Where no labels are wanted, every folder that frames lie in is a clip.

    Args:
        images: a folder or a table.
        sampling: which frames.
        classes: as of `scan`.
        group_by: as of `scan`.
        labelled: as of `scan`.
        known: as of `scan`.
        story: hears the progress and what was noticed.

    Raises:
        TlkitError: as of `scan`; single images among clips, or frames of a clip that do not agree on label, split or group.
    """
    read = partial(read_contents, story=story, look=True)
    frames = listed(images, (classes, known), group_by, labelled, read, sampling, story)
    readable = frames.without(frames.unreadable()) if frames.unreadable() else frames
    refuse_none(str(images), readable.paths, frames.unreadable())
    names = readable.extra.pop(CLIP, None) or [folder_of(path) for path in readable.paths]
    readable.extra.pop(FRAME, None)
    dataset = fold(readable, names, sampling)
    for name, count in zip(dataset.classes, dataset.class_counts().tolist(), strict=True):
        if not count:
            raise TlkitError(f"no clip of class {name!r} has a frame that can be decoded.", first_of(dataset.set_aside))
    if dataset.clips is not None:
        counts = dataset.clips.counts
        story.say(f"{len(dataset)} clips of {counts.min()} to {counts.max()} frames, {counts.sum()} in all.")
    tell_unexpected(dataset, story)
    return dataset


def holds_clips(images: str | Path, sampling: Sampling, group_by: str | None = None) -> bool:
    """Whether the samples are clips: where that was asked for, or a table has a column `clip` that is not the group."""
    source = Path(images).expanduser()
    if sampling.asked or source.suffix.lower() not in SUFFIXES or not source.is_file():
        return sampling.asked
    return group_by != CLIP and CLIP in read_table(source, (CLIP,))[0]
