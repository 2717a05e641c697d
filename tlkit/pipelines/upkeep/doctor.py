"""`tlkit doctor`: installed versions, hardware, and the folders of caches and weights."""

import os
import re
from pathlib import Path
from typing import Any

from tlkit.backbones.weight_files import models_folder
from tlkit.base.machine import EXTRAS, bytes_text, cache_dir, install, lacking
from tlkit.base.story import Phase, Silence, Story
from tlkit.extraction import kept
from tlkit.options.commands import DoctorConfig

PHASES = Phase("loading Keras", 4.0), Phase("looking around", 0.5)
SETTINGS = (
    *("KERAS_BACKEND", "KERAS_HOME", "TLKIT_CACHE", "TLKIT_OFFLINE", "TLKIT_WEIGHTS_URL", "CUDA_VISIBLE_DEVICES"),
    "HTTPS_PROXY",
)


def run(config: DoctorConfig, story: Story | None = None) -> dict[str, Any]:
    """Inspect the installation.

    Returns:
        `versions`, `hardware`, `extras` (name -> whether all of it is installed), `cache`, `networks` (`files`, `bytes`),
        `weights`, `settings`, `text`.
    """
    story = story or Silence()
    story.expect(*PHASES)
    story.begin("loading Keras")
    from tlkit.backbones import runtime  # imported here, within the phase that reports it

    story.begin("looking around")
    cache, why = cache_dir()
    networks = kept.list_kept()
    found = {
        "versions": runtime.versions(),
        "hardware": runtime.hardware(),
        "extras": {extra: not lacking(extra) for extra in EXTRAS},
        "cache": {"folder": str(cache), "reason": why, "writable": _writable(cache)},
        "networks": {"files": len(networks), "bytes": sum(each.bytes for each in networks)},
        "weights": str(models_folder()),
        "settings": {name: _public(os.environ[name]) for name in SETTINGS if name in os.environ},
    }
    return {**found, "text": _text(found)}


def _public(setting: str) -> str:
    """A setting that is safe to paste into a bug report: an address without its user and password."""
    return re.sub(r"(^|://)[^/@]*@", r"\1***@", setting)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _text(found: dict[str, Any]) -> str:
    import keras

    hardware = found["hardware"]
    lines = [f"{name:<16}{version}" for name, version in found["versions"].items()]
    lines += ["", f"backend       {keras.backend.backend()}", f"cores         {hardware['cores']}"]
    lines.append(f"accelerators  {', '.join(hardware['accelerators']) or 'none: everything runs on the CPU'}")
    lines += ["", f"cache         {found['cache']['folder']} ({found['cache']['reason']})"]
    if not found["cache"]["writable"]:
        lines.append("              is not writable; set TLKIT_CACHE to a folder that is")
    networks = found["networks"]
    lines.append(f"networks      {networks['files']} kept as ONNX there, {bytes_text(networks['bytes'])}")
    lines.append(f"weights       {found['weights']}")
    lines += [f"{name} = {value}" for name, value in found["settings"].items()]
    lines.append("")
    for extra, row in EXTRAS.items():
        state = "installed" if found["extras"][extra] else f"not installed ({row.purpose}): {install(extra)}"
        lines.append(f"{extra:<14}{state}")
    return "\n".join(lines)
