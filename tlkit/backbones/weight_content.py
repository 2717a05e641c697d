"""What is in a file of weights: whether it is whole, whether it is Keras's own, and of which network. Cold."""

import re
from collections.abc import Mapping
from pathlib import Path

from tlkit.backbones.weight_table import CALLED_THERE, WeightFile, every_file
from tlkit.base.errors import TlkitError
from tlkit.base.files import md5_file, sha256_file

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Version of an HDF5 header -> where it says how wide addresses are, and where the file's end stands (HDF5 File Format
# Specification, version 3.0, section II.A).
HEADERS = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
SUM = {"md5": md5_file, "sha256": sha256_file}


def wrong_with(file: WeightFile, path: Path) -> str:
    """Why what is at `path` is not `file`, by its sum, or by its header where no sum is stated; "" if it may be."""
    for kind, wanted in file.known_sums.items():
        found = SUM[kind](path)
        if found != wanted:
            reason, who = header_problem(path), "Keras states" if file.sums else "tlkit has only met"
            return f"its {kind} is {found}, {who} {wanted}" + (f"; {reason}" if reason else "")
    return "" if file.known_sums else header_problem(path)


def header_problem(path: Path) -> str:
    """Why a file is no whole HDF5 file, by its first bytes and its size; "" if it is."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(SIGNATURE):
        begins = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head[:16])
        return f"it is no HDF5 file: it begins with {begins!r}" if head else "it is empty"
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
    """Which of Keras's files this is, whatever it is called.

    Args:
        path: a file.
        stated: name -> sha256, of files that `tlkit weights export` wrote beside it.

    Raises:
        TlkitError: it is damaged, or none of them; the hint says what can be done with it.
    """
    if not path.is_file():
        raise TlkitError(f"{str(path)!r} does not exist.", "give a file, or a folder of files.")
    if problem := header_problem(path):
        raise TlkitError(f"{str(path)!r} holds no weights: {problem}.", "download or copy it again.")
    sums = {kind: of(path) for kind, of in SUM.items()}
    if path.name in stated and stated[path.name] != sums["sha256"]:
        raise TlkitError(
            f"{str(path)!r} was damaged on its way: its sha256 is {sums['sha256']}, weights.json beside it says "
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
    """A file's name without what browsers and file managers add: `x (1).h5`, `x.h5.1`, `x - Copy.h5` are `x.h5`."""
    return re.sub(r"(\s*\(\d+\)|\s+-\s+Copy|\s+copy)*\.h5(\.\d+)?$", ".h5", name)


def _unknown(
    path: Path, named: WeightFile | None, numbers: int | None, md5: str, files: list[WeightFile]
) -> TlkitError:
    """Why a whole file of weights is taken for none of Keras's."""
    own = f"if these are weights of your own, they need no import: give them with --weights {path}."
    if named is not None and named.sums:
        ((kind, wanted),) = named.sums.items()
        found = SUM[kind](path)
        return TlkitError(
            f"{str(path)!r} is called like the weights of {named.spec}, but its {kind} is {found}, Keras states {wanted}.",
            f"it is an older version, or damaged: download it again; {own}",
        )
    if named is not None:
        holds = "no layers that Keras could read" if numbers is None else f"{numbers:,} numbers"
        return TlkitError(
            f"{str(path)!r} is called like the weights of {named.spec}, which are {named.parameters:,} numbers, but holds "
            f"{holds}.",
            f"it is of another variant, or has the classifier in it; {own}",
        )
    alike = [file for file in files if not file.sums and file.parameters == numbers]
    if alike:
        names = ", ".join(f"{file.name} ({file.spec})" for file in alike)
        return TlkitError(
            f"{str(path)!r} holds weights of {alike[0].spec.partition(',size')[0]}, but Keras states no checksum of them, "
            "and by their content nobody can tell for which image size.",
            f"if you know it, give the file its name: {names}.",
        )
    return TlkitError(
        f"{str(path)!r} is none of the files that Keras publishes without their classifier: its md5 is {md5}.",
        f"files with the classifier (without notop or no_top in their name) are not needed; {own}",
    )
