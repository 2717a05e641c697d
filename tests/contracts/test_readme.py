"""The README, the docs and the examples promise only what the code keeps."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tlkit.cli.commands import COMMANDS
from tlkit.options.option import read_toml, resolve

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for folder in (".", "docs", "benchmarks", "benchmarks/results") for page in (ROOT / folder).glob("*.md")
)
SHORT = {"README.md": 150, "benchmarks/RESULTS.md": 60}  # lines at most
KINDS = {row.name: row.options for row in COMMANDS}
COMMON_FLAGS = {"json", "config", "quiet", "verbose", "help", "version"}


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [
        line for page in PAGES for block in blocks(page, "bash") for line in block.replace("\\\n", "").splitlines()
    ]
    return sorted({line.partition(" #")[0].strip() for line in lines if line.startswith("tlkit ")})


def test_the_file_map_is_true():
    assert generator().map_page() == (ROOT / "docs" / "map.md").read_text(encoding="utf-8"), "run `make docs`"


def test_every_folder_is_listed():
    made = {"demo", "runs", "build", "dist", "__pycache__"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - made
    assert {name for name in folders if not name.endswith(".egg-info")} == set(generator().FOLDERS)


def test_the_readme_and_the_summary_of_results_are_short():
    lengths = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in SHORT}
    assert {name: lines for name, lines in lengths.items() if lines > SHORT[name]} == {}


def test_the_picture_of_the_report_is_small():
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


def test_every_page_is_found_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


def figures(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])\d+(?:[.,]\d+)*(?:e-\d+)?", text))


def rows(page: Path) -> list[list[str]]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| ")]


def test_a_figure_in_the_summary_stands_in_a_page_beside_it():
    known = set().union(
        *(figures(page.read_text(encoding="utf-8")) for page in (ROOT / "benchmarks/results").glob("*"))
    )
    table = [row for row in rows(ROOT / "benchmarks" / "RESULTS.md") if len(row) == 4]
    assert {figure for row in table for figure in figures(row[1])} - known == set()
    assert [row for row in table if "`" not in row[2] and row[2].strip() not in ("command", "the same")] == []


def test_the_table_of_the_readme_is_that_of_the_results():
    known = figures((ROOT / "benchmarks" / "results" / "recipe.md").read_text(encoding="utf-8"))
    table = [row[1:] for row in rows(ROOT / "README.md") if len(row) == 5]
    assert len(table) > 5
    assert {figure for row in table[1:] for cell in row for figure in figures(cell)} - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("line", commands())
def test_a_command_in_the_docs_has_only_flags_that_exist(line):
    _, name, *words = shlex.split(line)
    kind = KINDS[name]
    flags = [word.removeprefix("--").partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    fields = set(kind.__dataclass_fields__)
    assert [
        flag for flag in flags if flag not in fields | COMMON_FLAGS and flag.removeprefix("no_") not in fields
    ] == []


def python_sources() -> dict[str, str]:
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
    return found | {f"README-{i}": code for i, code in enumerate(blocks(ROOT / "README.md", "python"))}


@pytest.mark.parametrize("code", python_sources().values(), ids=python_sources())
def test_python_in_the_docs_calls_what_exists(code):
    for node in ast.walk(ast.parse(code)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "tlkit":
            known = set(KINDS[called.attr].__dataclass_fields__)
            assert {word.arg for word in node.keywords} <= known


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_an_example_config_is_accepted(path):
    kind = KINDS[path.stem]
    config = resolve(kind, {"images": "images"}, path)
    assert all(list(value) == list(getattr(config, name)) if isinstance(value, list) else value == getattr(config, name)
               for name, value in read_toml(path).items())  # fmt: skip


def test_make_lists_every_target_it_has():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)) == targets
    promised = {
        word for page in PAGES for word in re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", page.read_text(), re.M)
    }
    assert {word for pair in promised for word in pair if word} <= targets
