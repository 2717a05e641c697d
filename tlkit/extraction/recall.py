"""Networks met before: what features of theirs are called in the store, without building them again.

    CACHE/networks/KEY.json     what was asked for, the weight files with their sha256, and what came of it

Building a network and reading its weights takes seconds, importing Keras first several more. When
everything asked of it is in the store, all that is needed is its name there. The name is looked up
under everything it follows from: the wish, the code that builds networks, the versions of what that
code stands on, and the content of the weight files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkit.core.atomic import read_json, write_json
from tlkit.core.cache_dir import cache_dir
from tlkit.core.fingerprint import sha256_file, sha256_json
from tlkit.core.versions import versions

BUILDERS = Path(__file__).parents[1] / "backbones"  # the code that a network follows from


def recall(wish: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of this wish the last time; None where it is new, or where code, versions or a weight file changed."""
    path = _place(wish)
    try:
        found = read_json(path)
        unchanged = all(sha256_file(Path(file)) == sha256 for file, sha256 in found["files"].items())
    except (OSError, json.JSONDecodeError, KeyError):
        return None
    return found["facts"] if unchanged else None


def remember(wish: Mapping[str, Any], facts: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Note what came of a wish.

    Args:
        wish: everything the user can ask of the network, JSON-able.
        facts: what to give back, JSON-able.
        files: that the weights were read from.
    """
    hashes = {str(file.absolute()): sha256_file(file) for file in files}
    write_json(_place(wish), {"wish": dict(wish), "files": hashes, "facts": dict(facts)})


def forget(wish: Mapping[str, Any]) -> None:
    """Drop what was noted."""
    _place(wish).unlink(missing_ok=True)


def _place(wish: Mapping[str, Any]) -> Path:
    code = {file.name: sha256_file(file) for file in sorted(BUILDERS.glob("*.py"))}
    name = sha256_json({"wish": dict(wish), "code": code, "versions": versions()})
    return cache_dir()[0] / "networks" / f"{name[:32]}.json"
