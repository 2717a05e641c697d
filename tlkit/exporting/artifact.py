"""The folder of an artifact: its names, its contract.json, and whether its files are unchanged since the export."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.base.files import read_checked_json
from tlkit.options.catalog import FORMATS, Format

CONTRACT, README, PROGRAM = "contract.json", "README.md", "classify.py"
LABELS, GOLDEN, FAMILIARITY = "labels.txt", "golden.npz", "familiarity.npz"
ARTIFACT_FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """An exported classifier on disk.

    Args:
        folder: where it is.
        contract: the content of contract.json, see docs/export.md.
    """

    folder: Path
    contract: dict[str, Any]

    @property
    def row(self) -> Format:
        """Its format."""
        return FORMATS[self.contract["kind"]]


def model_bytes(contract: dict[str, Any]) -> int:
    """Size of the model's files: `model.xml` and `model.bin`, or all below `model`."""
    return sum(entry["bytes"] for name, entry in contract["files"].items() if name.startswith(("model.", "model/")))


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """`{name: {"bytes", "sha256"}}` of every file below a folder, POSIX names in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in files
        if path.name != CONTRACT or path.parent != folder
    }


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_artifact(folder: Path) -> Artifact:
    """Read contract.json, and check that every file it names is there and unchanged.

    Raises:
        TlkitError: not an artifact, or its contract cannot be read or has another format.
        OutOfDate: files are missing or changed; the message names all of them.
    """
    path = folder / CONTRACT
    if not path.is_file():
        inside = sorted(found.parent.name for found in folder.glob(f"*/{CONTRACT}")) if folder.is_dir() else []
        raise TlkitError(
            f"{str(folder)!r} is not an artifact: it has no {CONTRACT}.",
            f"it holds {', '.join(inside)}: `tlkit verify {folder / inside[0]}`."
            if inside
            else "give a folder that `tlkit export` wrote.",
        )
    try:
        contract = read_checked_json(path)
        files = {name: (entry["sha256"], entry["bytes"]) for name, entry in contract["files"].items()}
        known = contract["format"] == ARTIFACT_FORMAT and contract["kind"] in FORMATS
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TlkitError(
            f"{path} is damaged: {type(error).__name__}: {error}.", "restore it, or export again."
        ) from error
    if not known:
        raise TlkitError(
            f"{path} has format {contract['format']!r} of kind {contract['kind']!r}, "
            f"this tlkit reads {ARTIFACT_FORMAT} of {', '.join(FORMATS)}.",
            f"use the tlkit that wrote it: {contract.get('versions', {}).get('tlkit', 'unknown')}.",
        )
    _refuse_changed(folder, files)
    return Artifact(folder, contract)


def _refuse_changed(folder: Path, files: dict[str, tuple[str, int]]) -> None:
    wrong = []
    for name, (sha256, _) in files.items():
        posix = PurePosixPath(name)
        if posix.is_absolute() or ".." in posix.parts:
            wrong.append(f"{name} lies outside of it")
        elif not (folder / posix).is_file():
            wrong.append(f"{name} is gone")
        elif sha256_of(folder / posix) != sha256:
            wrong.append(f"{name} has changed")
    if wrong:
        raise OutOfDate(f"{str(folder)!r} is not as it was exported: {', '.join(wrong)}.", "export again.")
