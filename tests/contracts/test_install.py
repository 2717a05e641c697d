"""What is installed is what tlkit needs, and it works far from the checkout."""

import ast
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Imported only where another package has brought it along, which says so itself
BROUGHT = {
    "absl": "tensorflow",
    "markupsafe": "jinja2",
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "mlflow": "mlflow-skinny",
    "torch": "keras",
    "pandas": "cleanlab",
}


def name_of(requirement: str) -> str:
    return re.split(r"[<>=;\[ ]", requirement)[0]


def test_the_list_without_tensorflow_is_the_list_without_tensorflow():
    of_its_graph = {"tensorflow", "tf2onnx", "onnx"}  # ONNX files are made of TensorFlow's graphs
    needed = {name_of(requirement) for requirement in PROJECT["dependencies"]} - of_its_graph
    lines = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8").splitlines()
    (told,) = [shlex.split(line)[2:] for line in lines if line.startswith("pip install jax ")]
    assert set(told) == needed | {"jax"}


def test_what_is_imported_is_declared():
    declared = {name_of(item) for item in PROJECT["dependencies"]}
    declared |= {name_of(item) for extra in PROJECT["optional-dependencies"].values() for item in extra}
    modules = importlib.metadata.packages_distributions()
    imported = set()
    for path in (ROOT / "tlkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    found = {
        module: {BROUGHT.get(module, module), module.replace("_", "-"), *map(str.lower, modules.get(module, ()))}
        for module in imported - set(sys.stdlib_module_names) - {"tlkit"}
    }
    assert {module for module, names in found.items() if not names & declared and module not in BROUGHT} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("tlkit-*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ignored = {"__pycache__", ".pyc"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tlkit").rglob("*") if path.is_file()}
    files = {name for name in files if not any(part in name for part in ignored)}
    assert files <= names
    assert "tlkit/py.typed" in names
    assert "tlkit/samples/recipes/hymenoptera.toml" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"tlkit"}


@pytest.mark.slow
def test_the_wheel_works_far_from_the_checkout(wheel, tmp_path):
    """In an environment of its own, which borrows the packages that tlkit needs and has no checkout to fall back on."""
    home, there = tmp_path / "environment", tmp_path / "elsewhere"
    there.mkdir()
    venv.create(home, with_pip=False)
    program = home / ("Scripts" if os.name == "nt" else "bin")
    (site,) = home.rglob("site-packages")
    # Folders named in a .pth file are searched, but their own .pth files, such as that of an editable tlkit, are not read.
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    pip = [sys.executable, "-m", "pip", "--python", str(program / "python")]
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, str(wheel)], check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TLKIT_CACHE")}
    environment = kept | {"TLKIT_CACHE": str(tmp_path / "cache")}

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=there, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert Path(run(str(program / "python"), "-c", "import tlkit; print(tlkit.__file__)")).is_relative_to(home)
    run(str(program / "tlkit"), "sample", "digits", "digits", "--count", "120")
    run(str(program / "tlkit"), "finetune", "digits", "--backbone", "nano", "--stages", "head", "--out", "run")
    assert "<html" in (there / "run" / "report.html").read_text(encoding="utf-8")
    assert (there / "run" / "model.keras").stat().st_size > 1_000_000
