"""The process: seeds, hardware, compilation. Importing it starts the backend, quietly."""

import logging
import platform
import sys
from typing import Any

from tlkit.base.machine import usable_cores
from tlkit.base.machine import versions as versions
from tlkit.base.process import lean_imports, native_stderr_silenced, settle_backend

settle_backend()
with native_stderr_silenced(), lean_imports():
    import keras

    if keras.backend.backend() == "tensorflow":
        keras.distribution.list_devices()  # the first look at devices is what makes TensorFlow talk

# TensorFlow suspects a bug wherever several models are traced; here each stage is a model of its own.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend; on one machine the same seed gives the same metrics."""
    keras.utils.set_random_seed(seed)


def gpus() -> list[str]:
    """Names of the accelerators that the backend sees; empty on a plain CPU."""
    if keras.backend.backend() == "torch":  # which Keras does not list
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [device for device in keras.distribution.list_devices() if not device.lower().startswith("cpu")]


def hardware() -> dict[str, Any]:
    """Processor, cores, accelerators and backend, for the record of a run."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "accelerators": gpus(),
        "backend": keras.backend.backend(),
    }


def jit() -> bool | str:
    """What to pass as `jit_compile`: Keras's choice, except with TensorFlow on a CPU.

    There XLA is the slow way: a training step of MobileNetV2's last blocks takes four times as
    long with it (benchmarks/training_step.py).
    """
    return False if keras.backend.backend() == "tensorflow" and not gpus() else "auto"


def command_line() -> str:
    """The command that started this process, as a user would type it."""
    import shlex
    from pathlib import Path

    program = Path(sys.argv[0]).name
    return shlex.join(["tlkit" if program == "__main__.py" else program, *sys.argv[1:]])  # python -m tlkit
