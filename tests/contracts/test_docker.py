"""What starts tlkit in a container asks for what tlkit has; docker/check.sh, which needs Docker, does the rest."""

import json
import re
import shlex
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


def test_only_what_serves_is_asked_whether_it_is_healthy():
    probe = "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=5)"
    assert "HEALTHCHECK" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert probe in COMPOSE  # and tried before anybody relies on it
    assert probe in CHECK
