"""`tlkit doctor`: what is installed, what the machine offers, where things are kept."""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones import runtime
from tlkit.backbones.weight_files import models_folder
from tlkit.base.machine import cache_dir
from tlkit.base.story import Story
from tlkit.options.commands import DoctorConfig

# module -> (what it is for, how to get it)
EXTRAS = {
    "keras_hub": ("--backbone hub:PRESET", "pip install 'tlkit[hub]'"),
    "pillow_heif": ("HEIC photographs", "pip install 'tlkit[heic]'"),
    "tensorboard": ("looking at logs/", "pip install 'tlkit[tensorboard]'"),
    "openvino": ("export --format openvino", "pip install 'tlkit[openvino]'"),
    "ai_edge_litert": ("running LiteRT without TensorFlow", "pip install 'tlkit[litert]'"),
    "mlflow": ("--log mlflow", "pip install 'tlkit[mlflow]'"),
    "wandb": ("--log wandb", "pip install 'tlkit[wandb]'"),
}
SETTINGS = (
    *("KERAS_BACKEND", "KERAS_HOME", "TLKIT_CACHE", "TLKIT_OFFLINE", "TLKIT_WEIGHTS_URL", "CUDA_VISIBLE_DEVICES"),
    "HTTPS_PROXY",
)


def run(config: DoctorConfig, story: Story | None = None) -> dict[str, Any]:
    """Look around.

    Returns:
        `versions`, `hardware`, `extras` (name -> installed), `cache`, `weights`, `settings`, `text`.
    """
    cache, why = cache_dir()
    found = {
        "versions": runtime.versions(),
        "hardware": runtime.hardware(),
        "extras": {module: importlib.util.find_spec(module) is not None for module in EXTRAS},
        "cache": {"folder": str(cache), "reason": why, "writable": _writable(cache)},
        "weights": str(models_folder()),
        "settings": {name: _public(os.environ[name]) for name in SETTINGS if name in os.environ},
    }
    return {**found, "text": _text(found)}


def _public(setting: str) -> str:
    """A setting as it may be pasted into a bug report: an address without its user and password."""
    return re.sub(r"(^|://)[^/@]*@", r"\1***@", setting)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _text(found: dict[str, Any]) -> str:
    hardware = found["hardware"]
    lines = [f"{name:<14}{version}" for name, version in found["versions"].items()]
    lines += ["", f"backend       {keras.backend.backend()}", f"cores         {hardware['cores']}"]
    lines.append(f"accelerators  {', '.join(hardware['accelerators']) or 'none: everything runs on the CPU'}")
    lines += ["", f"cache         {found['cache']['folder']} ({found['cache']['reason']})"]
    if not found["cache"]["writable"]:
        lines.append("              cannot be written; set TLKIT_CACHE to a folder that can be")
    lines.append(f"weights       {found['weights']}")
    lines += [f"{name} = {value}" for name, value in found["settings"].items()]
    lines.append("")
    for module, (purpose, remedy) in EXTRAS.items():
        lines.append(
            f"{module:<14}{'installed' if found['extras'][module] else f'not installed ({purpose}): {remedy}'}"
        )
    return "\n".join(lines)
