"""What the docs tell people to install is what tlkit needs."""

import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_list_without_tensorflow_is_the_list_without_tensorflow():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in listed} - {"tensorflow"}
    lines = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8").splitlines()
    (told,) = [shlex.split(line)[2:] for line in lines if line.startswith("pip install jax ")]
    assert set(told) == needed | {"jax"}
