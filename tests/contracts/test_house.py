"""The rules of the house, so that no review has to repeat them. CONTRIBUTING.md says why."""

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tlkit.cli.commands import COMMANDS
from tlkit.options import commands as configs
from tlkit.options.option import Options

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "tlkit").rglob("*.py"))
BANNED = {"utils", "util", "helpers", "helper", "common", "misc"}
HEAVY = ("keras", "tensorflow", "jax", "torch", "pandas", "sklearn", "PIL")
LONGEST, SHORTEST, LONGEST_FUNCTION = 500, 40, 60  # lines
MOST_FILES, MOST_PARAMETERS = 18, 8
PLUG_INS = (
    "tlkit/classifier/heads/",
    "tlkit/tasks/",
    "tlkit/auditing/",
    "tlkit/backbones/",
    "tlkit/exporting/",
)
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


def lines_of(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions() -> list[tuple[str, ast.FunctionDef]]:
    return [
        (f"{short(path)}:{node.lineno} {node.name}", node)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def parameters(node: ast.FunctionDef) -> int:
    """How many there are to fill in: `self` and `cls` are not."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return len([each for each in given if each is not None and each.arg not in ("self", "cls")])


def test_a_module_fits_in_the_head():
    long = {short(path): lines_of(path) for path in MODULES if lines_of(path) > LONGEST}
    assert long == {}, "split each by what changes together."


def test_a_module_is_worth_a_file():
    """Under 40 lines only what is one of many of its kind: a head, a check, a family, a format."""
    small = {short(path): lines_of(path) for path in MODULES if path.stem not in ("__init__", "__main__")}
    assert {path: n for path, n in small.items() if n < SHORTEST and not path.startswith(PLUG_INS)} == {}


def test_a_package_fits_in_the_head():
    packages = {path.parent: list(path.parent.glob("*.py")) for path in MODULES if path.name == "__init__.py"}
    files = {
        short(folder): len([path for path in found if path.name != "__init__.py"]) for folder, found in packages.items()
    }
    assert {folder: n for folder, n in files.items() if n > MOST_FILES} == {}


def test_pipelines_are_the_commands():
    files = {path.stem for path in (ROOT / "tlkit" / "pipelines").rglob("*.py")} - {"__init__"}
    assert files == {row.name for row in COMMANDS}


def test_a_function_fits_on_a_screen():
    long = {place: node.end_lineno - node.lineno + 1 for place, node in functions()}
    assert {place: lines for place, lines in long.items() if lines > LONGEST_FUNCTION} == {}


def test_a_function_asks_for_little():
    asked = {place: parameters(node) for place, node in functions()}
    assert {place: count for place, count in asked.items() if count > MOST_PARAMETERS} == {}


def test_the_command_line_and_the_lowest_layers_are_cold():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.relative_to(ROOT / "tlkit").parts[0] in ("cli", "options", "base")
    ]
    program = f"import importlib, sys; [importlib.import_module(name) for name in {names!r}]; " + (
        f"found = [name for name in {HEAVY!r} if name in sys.modules]; assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


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


@pytest.mark.parametrize(
    ("written", "where"),
    [
        (r"\bopen_space\(", {"source.py", "store.py"}),  # a place in the store, by its key
        (r"\bweights_sha256\(", {"source.py"}),  # what a key says of a network that no backbone has fingerprinted
        (r":avg\"|:\{\S*pooling\}", {"source.py"}),  # what it calls a layer and its pooling
        (r"\bsha256_json\(", {"store.py", "recall.py"}),  # recall names what was asked of a network, no row
    ],
)
def test_the_keys_of_stored_rows_are_made_in_one_file(written, where):
    above = [path for path in MODULES if path.parent.name not in ("backbones", "base", "data")]
    found = {short(path) for path in above if re.search(written, path.read_text(encoding="utf-8"))}
    assert found == {f"tlkit/extraction/{name}" for name in where}


ASKS_THE_TASK = re.compile(
    r"(?<!tasks)\.multi\b|targets is None|targets is not None|[=!]= \"(multi|single)\"|\bis (not )?(MULTI|SINGLE)\b"
)


def test_what_a_target_means_is_asked_in_the_tasks_alone():
    asked = {
        f"{short(path)}:{number}"
        for path in MODULES
        if path.parent != ROOT / "tlkit" / "tasks"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ASKS_THE_TASK.search(line)
    }
    assert asked == set(), "give `Task` a method or a row instead: a new kind of target is one file and its rows."


def test_every_table_of_tasks_has_a_row_for_each():
    from tlkit.auditing.audit import DOUBTS
    from tlkit.evaluation.compare import COMPARED
    from tlkit.evaluation.evaluate import MEASURES
    from tlkit.exporting.snippets import PROGRAMS
    from tlkit.report.headline import OPENINGS
    from tlkit.report.tasks import WORDS
    from tlkit.tasks.registry import TASKS
    from tlkit.training.balance import SOLVERS

    tables = (MEASURES, COMPARED, PROGRAMS, WORDS, OPENINGS, SOLVERS, DOUBTS)
    assert [list(table) for table in tables] == [list(TASKS)] * len(tables)


def test_public_classes_have_names_of_their_own():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(short(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
