"""The facts kept with a classifier, and its familiarity: read from its file without loading Keras."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, replacing
from tlkit.classifier.familiarity import Familiarity
from tlkit.data.dataset import InputContract
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

MEMBER = "tlkit.json"
FAMILIARITY = "tlkit-familiarity.npz"
FORMAT = 1
AGAIN = "restore it from a copy; for a run, `tlkit finetune --resume RUN` recreates it."


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """How a clip becomes the input of a classifier of clips.

    Args:
        frames: T of its input; shorter clips are masked.
        stride: every `stride`-th frame is used.
        time: what reads the frames, a row of `catalog.TIMES`.
        pooling: of each frame: avg, max or concat.
    """

    frames: int
    stride: int
    time: str
    pooling: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a classifier stores besides its weights.

    Args:
        classes: class names, in the order of the logits.
        contract: how a file becomes its input.
        backbone: its name.
        grid_layer: the layer whose output is the grid, the seam between backbone and head.
        temperature: logits are divided by it before the softmax, or the sigmoids.
        trained_on: hex sha256 of the training images, sorted; for recognising them later.
        threshold: lowest confidence at which it answers, 0..1; None where it always does.
        target_precision: the precision that the threshold was chosen for, 0..1.
        task: what its logits mean.
        flip: whether training included mirrored images; None where that is not known.
        margins: half-width of the 95 % interval around each predicted number, in its own units; None where there is
            none.
        clip: how clips become its input; None where it takes single images.
    """

    classes: tuple[str, ...]
    contract: InputContract
    backbone: str
    grid_layer: str
    temperature: float = 1.0
    trained_on: tuple[str, ...] = ()
    threshold: float | None = None
    target_precision: float | None = None
    task: Task = SINGLE
    flip: bool | None = None
    margins: tuple[float, ...] | None = None
    clip: ClipFacts | None = None


def as_text(facts: Facts) -> str:
    """The text of the member in a classifier's file."""
    return json.dumps({"format": FORMAT, **asdict(facts), "task": facts.task.name}, ensure_ascii=True)


def write_facts(path: Path, facts: Facts, announce: Callable[[Path], None] | None = None) -> None:
    """Change the facts of a classifier on disk, and nothing else in its file, atomically.

    Args:
        path: of the classifier.
        facts: the new ones.
        announce: called with the path of the new file before it replaces the old one.
    """
    with replacing(path) as temporary:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
            for member in old.infolist():
                if member.filename != MEMBER:
                    new.writestr(member, old.read(member))
            new.writestr(MEMBER, as_text(facts), zipfile.ZIP_DEFLATED)
        if announce is not None:
            announce(temporary)


def read_facts(path: Path) -> Facts:
    """The facts of a classifier, without loading its network.

    Raises:
        TlkitError: when there is no such file, or tlkit did not write it.
    """
    if not path.is_file():
        raise TlkitError(f"{str(path)!r} does not exist.", "give a run folder or the model.keras in it.")
    with reading(path, AGAIN):
        if not zipfile.is_zipfile(path):
            raise _foreign(path)
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise _foreign(path)
            facts = json.loads(archive.read(MEMBER))
        if facts.pop("format") != FORMAT:
            raise TlkitError(
                f"{str(path)!r} was written by another version of tlkit.", "use that version; see run.json."
            )
        facts["contract"] = InputContract(**facts["contract"])
        facts["classes"], facts["trained_on"] = tuple(facts["classes"]), tuple(facts["trained_on"])
        facts["margins"] = None if facts.get("margins") is None else tuple(facts["margins"])
        facts["clip"] = ClipFacts(**facts["clip"]) if facts.get("clip") else None
        facts["task"] = TASKS[facts.get("task", SINGLE.name)]
        return Facts(**facts)


def refuse_clips(facts: Facts, what: str, instead: str) -> None:
    """Raise where a classifier of clips is used for what only works with images.

    Raises:
        TlkitError: in one sentence, with what to do instead.
    """
    if facts.clip is not None:
        raise TlkitError(f"{what} is for classifiers of single images, but this one takes clips.", instead)


def _foreign(path: Path) -> TlkitError:
    return TlkitError(
        f"{str(path)!r} holds no class names: tlkit did not write it, or it is damaged.",
        "train with `tlkit finetune --backbone that.keras`, or give a run folder.",
    )


def read_familiarity(path: Path) -> Familiarity | None:
    """The familiarity of a classifier on disk, without loading its network; None where it has none."""
    with reading(path, AGAIN), zipfile.ZipFile(path) as archive:
        return Familiarity.from_bytes(archive.read(FAMILIARITY)) if FAMILIARITY in archive.namelist() else None
