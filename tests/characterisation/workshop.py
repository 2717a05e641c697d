"""A folder with the images of the recording in it, where commands are run as a user would run them.

Only the public face is used, `tlkit.COMMAND(...)` and `python -m tlkit`, so that nothing here depends on what
the modules inside are called.
"""

import json
import os
import subprocess
import sys
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any

import tlkit

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
ARCHIVE = RECORDED / "93062aa.tar.gz"
PLACEHOLDER = "/the/folder"  # in the archive's texts: where the archive is unpacked
TEXTS = {".csv", ".json", ".toml", ".md", ".txt"}

# The options with which `tlkit sample` drew the images of the archive.
SAMPLES: dict[str, tuple[str, ...]] = {
    "shapes": (
        *("shapes", "--count", "60", "--seed", "3", "--mislabelled", "0.07", "--duplicate", "0.05"),
        *("--near-duplicate", "0.1", "--corrupt", "0.04", "--rotated", "0.1"),
    ),
    "others": ("shapes", "--count", "16", "--seed", "4"),
    "digits": ("digits", "--count", "160"),
    "sheets": ("sheets", "--count", "36", "--seed", "5"),
}
HEAD = {"backbone": "nano", "stages": ("head",), "views": 2}  # of the run on shapes


class Workshop:
    """Where commands run, and the runs that several observations share, each made when first asked for.

    Args:
        folder: the archive was unpacked here; the process must have it as its working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cold(self, *arguments: str) -> dict[str, Any]:
        """What `python -m tlkit ... --json` prints, with no weights on the machine."""
        environment = os.environ | {"KERAS_HOME": str(self.folder / "keras"), "PYTHONPATH": str(HERE.parents[1])}
        command = [sys.executable, "-m", "tlkit", *arguments, "--json", "--quiet", "--offline"]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def plain(self, value: Any) -> Any:
        """A JSON value without this machine's paths: those of the folder become relative to it."""
        return json.loads(json.dumps(value).replace(f"{self.folder}/", ""))

    @cached_property
    def drawn(self) -> dict[str, dict[str, Any]]:
        """What drawing each sample anew says, into the folder `drawn`."""
        return {name: self.cold("sample", kind, f"drawn/{name}", *rest) for name, (kind, *rest) in SAMPLES.items()}

    @cached_property
    def head(self) -> Path:
        """A solved head on shapes; so few images that what validation would decide is cross-validated."""
        tlkit.finetune("shapes", **HEAD, out="head")
        return Path("head")

    @cached_property
    def top(self) -> Path:
        """A head, then the last block, on digits, with validation images."""
        chosen = {"stages": ("head", "top"), "blocks": 1, "views": 2, "epochs": (3,), "flip": False}
        chosen |= {"val": 0.2, "test": 0.2, "validate": "split", "target_precision": 0.9}
        tlkit.finetune("digits", backbone="nano", **chosen, out="top")
        return Path("top")

    @cached_property
    def mlp(self) -> Path:
        """A head of two layers, trained by gradient descent, on the same digits."""
        chosen = {"stages": ("head",), "views": 1, "epochs": (12,), "flip": False, "audit": False}
        chosen |= {"val": 0.2, "test": 0.2, "validate": "split", "head": "mlp", "hidden": (32,), "augment": "none"}
        chosen |= {"learning_rate": (0.01,)}
        tlkit.finetune("digits", backbone="nano", **chosen, out="mlp")
        return Path("mlp")

    @cached_property
    def labels(self) -> Path:
        """A head for several labels an image."""
        tlkit.finetune("sheets/images.csv", backbone="nano", stages=("head",), views=2, out="labels")
        return Path("labels")


def unpack(folder: Path) -> None:
    """The archive, with the paths in its texts made those of `folder`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for file in sorted((folder / "old").rglob("*")):
        if file.suffix in TEXTS and PLACEHOLDER in (text := file.read_text(encoding="utf-8")):
            file.write_bytes(text.replace(PLACEHOLDER, str(folder)).encode())
