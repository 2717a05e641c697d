"""Versions of what shapes results, without importing any of it."""

import importlib.metadata
import platform

from tlkit.core.version import __version__

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "scikit-learn", "scipy", "pyarrow")


def versions() -> dict[str, str]:
    """Version of tlkit, Python and each package that shapes results; absent packages are left out."""
    found = {"tlkit": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
