"""The rules of the house, so that no review has to repeat them. CONTRIBUTING.md says why."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tlkit.options import commands as configs
from tlkit.options.option import Options

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "tlkit").rglob("*.py"))
BANNED = {"utils", "util", "helpers", "helper", "common", "misc"}
LOCKS = (ROOT / "requirements.lock", ROOT / "docker" / "cpu.lock", ROOT / "docker" / "gpu.lock")
CONFIGS = [
    kind
    for kind in vars(configs).values()
    if isinstance(kind, type) and issubclass(kind, Options) and dataclasses.is_dataclass(kind) and kind is not Options
]


def everything(extras: dict[str, list[str]], name: str) -> list[str]:
    """The packages of an extra, with those of the extras that it takes in."""
    listed = []
    for item in extras[name]:
        taken = re.fullmatch(r"tlkit\[(.+)\]", item)
        listed += [row for other in taken[1].split(",") for row in everything(extras, other)] if taken else [item]
    return listed


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_fits_in_the_head(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 500, f"{short(path)} has {lines} lines: split it by what changes together."


def test_no_module_is_named_after_nothing():
    names = {path: set(path.relative_to(ROOT / "tlkit").with_suffix("").parts) for path in MODULES}
    assert [short(path) for path, parts in names.items() if parts & BANNED] == []


@pytest.mark.slow
def test_imports_point_down():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_option_explains_itself(kind):
    for spec in dataclasses.fields(kind):
        text = spec.metadata.get("help", "")
        assert re.fullmatch(r"\S.*\S[.]|\S.*[)][.]?", text), f"{kind.__name__}.{spec.name}: {text!r}"


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    listed = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    for requirement in listed:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert re.search(r"#\s*\S+", line), f"{requirement} has no comment saying what it is for."


def test_the_locks_hold_every_dependency_with_hashes_and_name_no_host():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for lock in LOCKS:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, f"{short(lock)} names a host."
        pinned = set(re.findall(r"^([a-z0-9-]+)==\S+", text, re.MULTILINE))
        listed = [*project["dependencies"]]
        if lock.name == "requirements.lock":
            listed += everything(project["optional-dependencies"], "dev")
        wanted = {re.split(r"[<>=\[;]", item)[0] for item in listed}
        assert wanted <= pinned, f"{short(lock)} lacks {wanted - pinned}: run `make lock`."
        assert text.count("--hash=sha256:") >= len(pinned)


def test_the_locks_agree():
    pins = [dict(re.findall(r"^([a-z0-9-]+)==(\S+) [\\;]", lock.read_text(encoding="utf-8"), re.M)) for lock in LOCKS]
    for other in pins[1:]:
        assert {
            name: (other[name], pins[0][name]) for name in other.keys() & pins[0] if other[name] != pins[0][name]
        } == {}


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_says_what_it_is_for(path):
    assert re.match(r'r?"""\S', path.read_text(encoding="utf-8")), f"{short(path)} has no docstring."
