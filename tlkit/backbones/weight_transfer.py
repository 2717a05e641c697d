"""Move files of weights between machines: export from Keras's folder with a list of checksums, and import. Cold."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tlkit.backbones.weight_files import CALLED_THERE, MIRROR, WeightFile, at_hand, every_file, folders, mirror
from tlkit.base.download import Patience, download
from tlkit.base.errors import TlkitError
from tlkit.base.files import md5_file, read_json, replacing, sha256_file, write_json, write_text
from tlkit.base.machine import bytes_text
from tlkit.base.remote import is_offline
from tlkit.base.story import Story

OTHERWISE = (
    "or give any weight file with --weights PATH; or start from random weights with --weights none; or use --backbone "
    "nano, whose weights are part of tlkit."
)


def fetch(file: WeightFile, story: Story, patience: Patience | None = None) -> Path:
    """The file on this machine, downloaded and checked if it is not here yet.

    Raises:
        TlkitError: another file is in its place; offline; it cannot be downloaded, or its folder cannot be written.
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
        check=header_problem,  # the download checks the checksums itself
        remedy=f"get {file.url} in another way and run `tlkit weights import FILE`; {OTHERWISE}",
    )
    if not file.sums:
        story.say(
            f"{file.name}: Keras states no checksum for it; its size, its header and the server's checksum, if any, "
            "were checked."
        )
    return target


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be created or written, before anything is downloaded.

    Raises:
        TlkitError: which explains KERAS_HOME.
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
        "set KERAS_HOME to a folder of yours: KERAS_HOME=/path/to/keras; weights are in its subfolder models.",
    )


# -- Export and import ---

LIST, README = "weights.json", "README.md"
FORMAT = "tlkit weights 1"
README_TEXT = """# Pretrained weights for tlkit

Copy this folder to a machine without a network, and there run:

    tlkit weights import FOLDER

Each file is checked against the checksums in weights.json and put where Keras looks for it (KERAS_HOME). `tlkit weights
list` then shows it at hand. Licences:

"""


def export_files(chosen: Sequence[tuple[WeightFile, Path]], folder: Path, story: Story) -> list[dict[str, Any]]:
    """Copy files into a folder, with a list of their checksums and a README.

    Args:
        chosen: each file and where it is.
        folder: to write; files of an earlier export stay.
        story: reports the progress.

    Returns:
        For each file `name`, `backbone`, `bytes`, `sha256`, `licence`.

    Raises:
        TlkitError: a file is damaged, the folder has another file of its name, or the folder cannot be written.
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
    """Put files where Keras looks for them, after all of them have been recognised by their content.

    Args:
        paths: files, and folders of `.h5` files.
        story: reports the progress.

    Returns:
        For each file `source`, `name`, `backbone`, and `done`: `placed`, `there already` or `replaced`.

    Raises:
        TlkitError: nothing is placed if one of them is damaged, is not Keras's, or would replace another.
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
    """The weight files behind an argument, without what else an export wrote."""
    if path.is_dir():
        return sorted(file for file in path.glob("*.h5") if not file.name.startswith("."))
    return [] if path.name in (LIST, README) and path.is_file() else [path]


def _plan(source: Path, file: WeightFile, target: Path) -> str:
    """What importing will do with a file."""
    if not target.exists():
        return "placed"
    if wrong_with(file, target):
        return "replaced"
    if sha256_file(source) != sha256_file(target):
        raise TlkitError(
            f"{str(target)!r} is there already, with other content than {str(source)!r}, and Keras states no checksum for it.",
            "keep what is there, or delete it and import again.",
        )
    return "there already"


def _copy(source: Path, target: Path, total: str) -> str:
    """Copy a file whose sha256 is `total`, atomically, never over another one; returns the checksum.

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


# -- Inspecting a file of weights: whether it is complete, whether it is Keras's own, and of which network. Cold ---

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Version of an HDF5 header -> offsets of the size of addresses and of the end-of-file address (HDF5 File Format
# Specification, version 3.0, section II.A).
HEADERS = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
SUM = {"md5": md5_file, "sha256": sha256_file}


def wrong_with(file: WeightFile, path: Path) -> str:
    """Why the file at `path` is not `file`, by its checksum, or by its header where there is none; "" if it may be."""
    for kind, wanted in file.known_sums.items():
        found = SUM[kind](path)
        if found != wanted:
            reason, who = header_problem(path), "Keras states" if file.sums else "tlkit has only met"
            return f"its {kind} is {found}, {who} {wanted}" + (f"; {reason}" if reason else "")
    return "" if file.known_sums else header_problem(path)


def header_problem(path: Path) -> str:
    """Why a file is not a complete HDF5 file, by its first bytes and its size; "" if it is."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(SIGNATURE):
        begins = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head[:16])
        return f"it is not an HDF5 file: it begins with {begins!r}" if head else "it is empty"
    width, end = HEADERS.get(head[8], (0, 0))
    if end and head[width] == 8:
        size, stated = path.stat().st_size, int.from_bytes(head[end : end + 8], "little")
        if size < stated:
            return f"it is cut short: {size:,} of {stated:,} bytes"
    return ""


def count_numbers(path: Path) -> int | None:
    """How many numbers Keras would read from a file in its older format (`.h5` of layers), None for another format."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            layers = [root[name] for name in root.attrs["layer_names"]]
            return sum(int(layer[name].size) for layer in layers for name in layer.attrs["weight_names"])
    except (OSError, KeyError, RuntimeError, AttributeError):  # what h5py raises for another or a damaged file
        return None


def recognise(path: Path, stated: Mapping[str, str]) -> WeightFile:
    """Which of Keras's files this is, whatever its name.

    Args:
        path: a file.
        stated: name -> sha256 of files, from the list that `tlkit weights export` wrote beside it.

    Raises:
        TlkitError: it is damaged, or none of them; the hint says what to do with it.
    """
    if not path.is_file():
        raise TlkitError(f"{str(path)!r} does not exist.", "give a file, or a folder of files.")
    if problem := header_problem(path):
        raise TlkitError(f"{str(path)!r} holds no weights: {problem}.", "download or copy it again.")
    sums = {kind: of(path) for kind, of in SUM.items()}
    if path.name in stated and stated[path.name] != sums["sha256"]:
        raise TlkitError(
            f"{str(path)!r} was damaged in transfer: its sha256 is {sums['sha256']}, weights.json beside it says "
            f"{stated[path.name]}.",
            "copy it again.",
        )
    files = list(every_file())
    for file in files:
        if file.sums and all(sums[kind] == wanted for kind, wanted in file.sums.items()):
            return file
    named = next((file for file in files if plain_name(path.name) in (file.name, CALLED_THERE.get(file.name))), None)
    numbers = count_numbers(path)
    if named is not None and not named.sums and numbers == named.parameters:
        return named
    raise _unknown(path, named, numbers, sums["md5"], files)


def plain_name(name: str) -> str:
    """A file's name without the additions of browsers and file managers: `x (1).h5`, `x.h5.1`, `x - Copy.h5` are `x.h5`."""
    return re.sub(r"(\s*\(\d+\)|\s+-\s+Copy|\s+copy)*\.h5(\.\d+)?$", ".h5", name)


def _unknown(
    path: Path, named: WeightFile | None, numbers: int | None, md5: str, files: list[WeightFile]
) -> TlkitError:
    """Why a complete file of weights is not recognised as Keras's."""
    own = f"if these are weights of your own, they need no import: give them with --weights {path}."
    if named is not None and named.sums:
        ((kind, wanted),) = named.sums.items()
        found = SUM[kind](path)
        return TlkitError(
            f"{str(path)!r} is named like the weights of {named.spec}, but its {kind} is {found}, Keras states {wanted}.",
            f"it is an older version, or damaged: download it again; {own}",
        )
    if named is not None:
        holds = "no layers that Keras could read" if numbers is None else f"{numbers:,} numbers"
        return TlkitError(
            f"{str(path)!r} is named like the weights of {named.spec}, which are {named.parameters:,} numbers, but holds "
            f"{holds}.",
            f"it is of another variant, or has the classifier in it; {own}",
        )
    alike = [file for file in files if not file.sums and file.parameters == numbers]
    if alike:
        names = ", ".join(f"{file.name} ({file.spec})" for file in alike)
        return TlkitError(
            f"{str(path)!r} holds weights of {alike[0].spec.partition(',size')[0]}, but Keras states no checksum for them, "
            "and their content does not show for which image size they are.",
            f"if you know it, give the file its name: {names}.",
        )
    return TlkitError(
        f"{str(path)!r} is none of the files that Keras publishes without their classifier: its md5 is {md5}.",
        f"files with the classifier (without notop or no_top in their name) are not needed; {own}",
    )
