"""Which of Keras's backends computes. Settled before Keras is imported, because then it is too late to choose."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from tlkit.core.errors import TlkitError, unknown_name

# Backends that can train, in the order in which they are taken where nobody chose.
BACKENDS = ("tensorflow", "jax", "torch")


def settle_backend() -> str:
    """Make sure that the backend Keras will load is there; returns what to tell the user, "" if all is as usual.

    `KERAS_BACKEND` decides, then Keras's own file, then TensorFlow. Where the last two name one that is not
    installed, the first of `BACKENDS` that is takes its place: Keras writes TensorFlow into its file unasked, so that
    file is no wish of the user's. A wish in `KERAS_BACKEND` is never replaced.

    Raises:
        TlkitError: `KERAS_BACKEND` names one that is unknown or not installed, or none is installed.
    """
    if "keras" in sys.modules:
        return ""
    asked = os.environ.get("KERAS_BACKEND")
    if asked:
        return _checked(asked)
    usual = _in_keras_file() or BACKENDS[0]
    if usual in BACKENDS and _installed(usual):
        os.environ["KERAS_BACKEND"] = usual
        return ""
    found = next(filter(_installed, BACKENDS), None)
    if found is None:
        raise TlkitError(
            "none of TensorFlow, JAX and PyTorch is installed; one of them has to compute.",
            "pip install tensorflow, or pip install jax",
        )
    os.environ["KERAS_BACKEND"] = found
    reason = "is not installed" if usual in BACKENDS else "cannot train"
    return f"computing with {found}, because {usual} {reason}; KERAS_BACKEND={found} says so for good"


def _checked(asked: str) -> str:
    """Nothing to tell about a backend that was asked for and is there."""
    if asked not in BACKENDS:
        raise unknown_name("a backend that tlkit can compute with (KERAS_BACKEND)", asked, BACKENDS)
    if not _installed(asked):
        others = [name for name in BACKENDS if _installed(name)]
        instead = f", or set KERAS_BACKEND={others[0]}, which is" if others else ""
        raise TlkitError(f"KERAS_BACKEND is {asked!r}, which is not installed.", f"pip install {asked}{instead}.")
    return ""


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _in_keras_file() -> str | None:
    """The backend in keras.json; None without such a file or such a line, as Keras has it."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("backend") if isinstance(content, dict) else None
