"""What starts tlkit in a container asks for what tlkit has; docker/check.sh, which needs Docker, does the rest."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tlkit.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
KINDS = {row.name: row.options for row in COMMANDS}
CHECK = (ROOT / "docker" / "check.sh").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SERVED = json.loads(re.search(r"^    command: (\[.*\])$", COMPOSE, re.MULTILINE)[1])


def tried() -> list[list[str]]:
    """The words of every line of check.sh that runs a command which exists."""
    lines = re.findall(r'(?:\btlkit|"\$image") ([a-z]+\b[^;|>)\n]*)', CHECK)
    return [words for words in map(shlex.split, lines) if words[0] in KINDS]


@pytest.mark.parametrize("words", [SERVED, *tried()], ids=" ".join)
def test_every_flag_exists(words):
    flags = {word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    assert flags <= set(KINDS[words[0]].__dataclass_fields__)


def test_every_command_is_tried_in_the_container():
    assert {words[0] for words in tried()} == set(KINDS)


def test_what_is_served_is_what_is_mounted():
    run, token = SERVED[1], SERVED[SERVED.index("--token-file") + 1]
    assert f"target: {run}\n" in COMPOSE
    assert Path(token).parent.as_posix() == "/run/secrets"
    assert re.search(rf"^    secrets:\n      - {Path(token).name}$", COMPOSE, re.MULTILINE)
    assert re.search(rf"^secrets:\n  {Path(token).name}:$", COMPOSE, re.MULTILINE)


def names_in(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[ ;=<>]", line)[0] for line in lines if line and line[0] not in "# "}


def test_what_answers_is_installed_as_tlkit_asks_for_it_and_trains_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core, served = (
        {re.split(r"[<>=;\[ ]", line)[0] for line in lines}
        for lines in (project["dependencies"], project["optional-dependencies"]["serve"])
    )
    assert served <= names_in("docker/answer.in") <= core | served
    assert not {"tensorflow", "keras", "tf2onnx", "scipy", "scikit-learn", "pandas"} & names_in("docker/answer.lock")
    pinned = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for line in (ROOT / "docker" / "answer.lock").read_text(encoding="utf-8").splitlines():
        if "==" in line:
            assert line.split(" ")[0] in pinned


def test_both_images_are_tried():
    assert "--target answer" in CHECK
    assert re.search(r"^FROM bare AS answer$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)


def test_only_what_serves_is_asked_whether_it_is_healthy():
    probe = "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=5)"
    assert "HEALTHCHECK" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert probe in COMPOSE  # and tried before anybody relies on it
    assert probe in CHECK
