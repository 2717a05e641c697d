"""Run artifacts in the runtime they are for; each is imported only when it is needed."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.exporting.formats import batch_of, module_of, runner, version_of
from tlkit.exporting.golden import Inputs
from tlkit.extraction.onnx_engine import Outputs
from tlkit.options.catalog import Format

Call = Callable[..., Outputs]  # images, and for clips a mask, float32
WARM_UP, RUNS, SECONDS = 3, 50, 2.0  # for the latency: at most so many runs, in at most about so many seconds


class Runtime:
    """An artifact ready to run, on the CPU.

    Args:
        row: its format.
        folder: of the artifact.

    Raises:
        TlkitError: no runtime for it is installed, or the runtime cannot read it; with the runtime's message.
    """

    def __init__(self, row: Format, folder: Path) -> None:
        module = runner(row)
        if module is None:
            raise TlkitError(f"{row.name} needs {row.running[0]}: not installed.", f"pip install {row.package}.")
        self.row, self.name = row, version_of(module)
        try:
            with quiet():
                self.call: Call = module_of(row).open_model(folder / row.model)
        except TlkitError:
            raise
        except Exception as error:  # runtimes raise any kind of error
            raise TlkitError(
                f"{self.name} cannot load {folder / row.model}: {str(error).strip()[:300]}",
                "it may need another version of the runtime; contract.json names the one it was exported with.",
            ) from error

    def __call__(self, samples: Inputs) -> Outputs:
        """Run them in batches that the format accepts."""
        step = self.row.batch or batch_of(samples.images)
        parts = [self.call(*samples.arrays(start, step)) for start in range(0, len(samples), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def latency(self, samples: Inputs) -> float:
        """Milliseconds for the first of them, decoded already: the median of up to 50 runs."""
        one = samples.arrays(0, 1)
        for _ in range(WARM_UP):
            self.call(*one)
        seconds: list[float] = []
        while len(seconds) < RUNS and sum(seconds) < SECONDS:
            started = time.perf_counter()
            self.call(*one)
            seconds.append(time.perf_counter() - started)
        return 1000 * median(seconds)


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """Suppress warnings of runtimes about future changes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
