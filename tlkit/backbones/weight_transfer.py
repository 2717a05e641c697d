"""Carry files of weights between machines: out of Keras's folder with a list of sums, and into it again. Cold."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tlkit.backbones.weight_content import header_problem, recognise, wrong_with
from tlkit.backbones.weight_files import at_hand, folders
from tlkit.backbones.weight_table import MIRROR, WeightFile, mirror
from tlkit.base.download import Patience, download, is_offline
from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json, replacing, sha256_file, write_json, write_text
from tlkit.base.machine import bytes_text
from tlkit.base.story import Story

OTHERWISE = (
    "or give any weight file with --weights PATH; or start from random weights with --weights none; or use --backbone "
    "nano, whose weights are inside tlkit."
)


def fetch(file: WeightFile, story: Story, patience: Patience | None = None) -> Path:
    """The file on this machine, downloaded and checked if it is not here yet.

    Raises:
        TlkitError: what is here is not that file; offline; it cannot be downloaded, or its folder not be written.
    """
    if found := at_hand(file.name):
        if wrong := wrong_with(file, found):
            raise TlkitError(
                f"{str(found)!r} is not what Keras publishes for {file.spec}: {wrong}.",
                f"delete it and run `tlkit weights fetch {file.spec}`; weights of your own go with --weights PATH.",
            )
        return found
    if is_offline():
        raise TlkitError(
            f"{file.name} (ImageNet weights of {file.spec}) is not in {' or '.join(map(str, folders()))}, and tlkit is "
            "offline.",
            f"where there is a network, `tlkit weights fetch {file.spec}` and `tlkit weights export DIR`; here "
            f"`tlkit weights import DIR`; {OTHERWISE}",
        )
    target = folders()[0] / file.name
    require_writable(target.parent)
    remote = file.remote
    (url,) = remote.urls
    source = f"{mirror()} ({MIRROR})" if mirror() else urlsplit(url).netloc
    story.say(
        f"weights of {file.spec}: {file.name}, about {bytes_text(file.bytes)}, from {source} into {target.parent}. "
        f"Licence: {file.row.licence}."
    )
    download(
        remote,
        target,
        story,
        patience,
        check=header_problem,  # the sums are the download's own to check
        remedy=f"get {file.url} in another way and run `tlkit weights import FILE`; {OTHERWISE}",
    )
    if not file.sums:
        story.say(
            f"{file.name}: Keras states no checksum of it; checked were its size, its header, and the sum that the server "
            "states, if it does."
        )
    return target


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before anything is brought there.

    Raises:
        TlkitError: it explains KERAS_HOME.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    setting = "as KERAS_HOME says" if os.environ.get("KERAS_HOME") else "KERAS_HOME is not set"
    raise TlkitError(
        f"weights are kept in {str(folder)!r} ({setting}), which cannot be written: {reason}.",
        "set KERAS_HOME to a folder of yours: KERAS_HOME=/path/to/keras; weights lie in its subfolder models.",
    )


# -- Carry files of weights between machines: out of Keras's folder with a list of sums, and into it again. Cold ---

LIST, README = "weights.json", "README.md"
FORMAT = "tlkit weights 1"
README_TEXT = """# Pretrained weights for tlkit

Carry this folder to a machine without a network, and there:

    tlkit weights import FOLDER

Each file is checked against the sums in weights.json and goes where Keras looks for it (KERAS_HOME). `tlkit weights
list` then shows it at hand. Licences:

"""


def export_files(chosen: Sequence[tuple[WeightFile, Path]], folder: Path, story: Story) -> list[dict[str, Any]]:
    """Copy files into a folder, with a list of their sums and a README.

    Args:
        chosen: each file and where it is.
        folder: to write; what an earlier export left in it stays.
        story: hears how far it is.

    Returns:
        For each file `name`, `backbone`, `bytes`, `sha256`, `licence`.

    Raises:
        TlkitError: a file is damaged, another one of its name is in the folder, or the folder cannot be written.
    """
    for file, path in chosen:
        if wrong := wrong_with(file, path):
            raise TlkitError(
                f"{str(path)!r} is not what Keras publishes for {file.spec}: {wrong}.",
                f"delete it, and `tlkit weights fetch {file.spec}`.",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        listed = {row["name"]: row for row in _rows(folder) if (folder / row["name"]).is_file()}
        for file, path in story.track(chosen, "weights copied", len(chosen)):
            total = _copy(path, folder / file.name, sha256_file(path))
            listed[file.name] = {
                "name": file.name,
                "backbone": file.spec,
                "bytes": path.stat().st_size,
                "sha256": total,
                "licence": file.row.licence,
            }
        write_json(folder / LIST, {"format": FORMAT, "files": list(listed.values())})
        licences = "".join(f"* {row['name']} ({row['backbone']}): {row['licence']}\n" for row in listed.values())
        write_text(folder / README, README_TEXT + licences)
    except OSError as error:
        raise TlkitError(
            f"{str(folder)!r} cannot be written: {error.strerror or error}.", "choose another folder, or make room."
        ) from error
    return [listed[file.name] for file, _ in chosen]


def import_files(paths: Sequence[Path], story: Story) -> list[dict[str, Any]]:
    """Put files where Keras looks for them, after every one of them has been recognised by its content.

    Args:
        paths: files, and folders of `.h5` files.
        story: hears how far it is.

    Returns:
        For each file `source`, `name`, `backbone`, and `done`: `placed`, `there already` or `replaced`.

    Raises:
        TlkitError: nothing is placed if one of them is damaged, is none of Keras's, or would take the place of another.
    """
    sources = [source for path in paths for source in _files(path)]
    if not sources:
        raise TlkitError(
            f"there is no .h5 file in {', '.join(map(str, paths))}.", "give files, or folders that hold them."
        )
    target = folders()[0]
    require_writable(target)
    known = [(source, recognise(source, _sums(source.parent))) for source in story.track(sources, "weights checked")]
    planned = [(source, file, _plan(source, file, target / file.name)) for source, file in known]
    for source, file, done in story.track(planned, "weights placed", len(planned)):
        if done != "there already":
            total = sha256_file(source)
            if done == "replaced":
                story.say(f"{target / file.name} was damaged, and is replaced.")
                (target / file.name).unlink()
            _copy(source, target / file.name, total)
    return [
        {"source": str(source), "name": file.name, "backbone": file.spec, "done": done}
        for source, file, done in planned
    ]


def _files(path: Path) -> list[Path]:
    """The files behind an argument; what an export wrote beside the weights is none of them."""
    if path.is_dir():
        return sorted(file for file in path.glob("*.h5") if not file.name.startswith("."))
    return [] if path.name in (LIST, README) and path.is_file() else [path]


def _plan(source: Path, file: WeightFile, target: Path) -> str:
    """What importing will do to the place of a file."""
    if not target.exists():
        return "placed"
    if wrong_with(file, target):
        return "replaced"
    if sha256_file(source) != sha256_file(target):
        raise TlkitError(
            f"{str(target)!r} is there already, with other content than {str(source)!r}, and Keras states no checksum of it.",
            "keep what is there, or delete it and import again.",
        )
    return "there already"


def _copy(source: Path, target: Path, total: str) -> str:
    """Copy a file whose sha256 is `total`, atomically, never over another one; returns the sum.

    Raises:
        TlkitError: another file of that name is there, or the copy differs from its source.
    """
    if target.exists():
        if sha256_file(target) != total:
            raise TlkitError(
                f"{str(target)!r} is there already, with other content.", "delete it, or choose another folder."
            )
        return total
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        if sha256_file(temporary) != total:
            raise TlkitError(
                f"the copy of {str(source)!r} differs from it: the disk or the medium fails.", "try again."
            )
    return total


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The list that an export wrote into a folder; empty where there is none."""
    path = folder / LIST
    if not path.is_file():
        return []
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise ValueError
        return [dict(row, name=str(row["name"]), sha256=str(row["sha256"])) for row in content["files"]]
    except (ValueError, KeyError, TypeError):
        raise TlkitError(
            f"{str(path)!r} was not written by `tlkit weights export`.", "move it out of the way."
        ) from None


def _sums(folder: Path) -> dict[str, str]:
    return {row["name"]: row["sha256"] for row in _rows(folder)}
