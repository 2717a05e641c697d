"""Generate docs/map.md and docs/cli.md from the code.

python docs/generate.py            write both
python docs/generate.py --check    exit 1 and name what is stale, write nothing
"""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs" / "map.md"
CLI = ROOT / "docs" / "cli.md"
FOLDERS = {
    "tlkit": "the package; its files are listed below",
    "tests": "a folder for each package; `contracts/` holds the rules of the code as tests",
    "datasets": "recipes of public datasets: URL, checksum, licence, layout",
    "docs": "what it does and how it is built; index.md orders the pages",
    "examples": "a config file, a Python program, a notebook, and jobs for clusters",
    "findings": "stand-alone programs that demonstrate the behaviour of other software",
    "benchmarks": "programs that measure, and their results",
    "training_nano": "the program that pretrains nano, the small network inside the package",
    "docker": "files for the container images, and a script that runs every command in one",
}
WIDTH = 100


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{path.relative_to(ROOT)} has no docstring; its first line goes into docs/map.md.")
    return docstring.partition("\n")[0].replace("|", "\\|")


def file_map() -> str:
    """Every file of the package with the first line of its docstring, as a Markdown table."""
    house = ROOT / "tlkit"
    rows = [("`tlkit/`", f"**{first_line(house / '__init__.py')}**"), *_files(house)]
    for name in packages():
        for folder in (house / name, *sorted(path.parent for path in (house / name).glob("*/__init__.py"))):
            title = f"`{folder.relative_to(ROOT).as_posix()}/`"
            rows += [(title, f"**{first_line(folder / '__init__.py')}**"), *_files(folder)]
    return "\n".join(["| file | what it is for |", "|---|---|", *(f"| {file} | {purpose} |" for file, purpose in rows)])


def packages() -> list[str]:
    """The packages from the top layer down, in the order of the layers in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(rule["layers"] for rule in project["tool"]["importlinter"]["contracts"] if rule["type"] == "layers")
    names = [name.strip(" ()") for layer in layers for name in layer.split("|")]
    return [name for name in names if (ROOT / "tlkit" / name).is_dir()]


def _files(folder: Path) -> list[tuple[str, str]]:
    """The modules of one package, without subpackages."""
    modules = sorted(path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py"))
    templates = sorted(path for path in folder.glob("*.html*"))
    named = [(f"`{path.name}`", first_line(path)) for path in modules]
    return named + [(f"`{path.name}`", "the template of a page") for path in templates]


def map_page() -> str:
    """docs/map.md: the folders, and every file of the package."""
    folders = "\n".join(
        ["| folder | what it is for |", "|---|---|", *(f"| `{name}/` | {use} |" for name, use in FOLDERS.items())]
    )
    written = (
        "Written by `make docs` from the first lines of docstrings; do not edit. Packages are listed from the top "
        "layer down."
    )
    return f"# What is where\n\n{written}\n\n{folders}\n\n## The package\n\n{file_map()}\n"


def help_of(*command: str) -> str:
    """The output of `tlkit COMMAND --help-all`, independent of this terminal."""
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1", "TERMINAL_WIDTH": str(WIDTH)}
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [Path(sys.executable).with_name("tlkit"), *command, "--help-all" if command else "--help"],
        env=kept | plain,
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"tlkit {' '.join(command)}: help failed:\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()).strip("\n")


def cli() -> str:
    """docs/cli.md: the help of every command."""
    from tlkit.cli.commands import COMMANDS

    parts = [
        "# The command line",
        "",
        "Written by `make docs` from `tlkit COMMAND --help-all`; do not edit. `--help` shows the most important "
        "options only.",
        "",
    ]
    for command in ((), *((row.name,) for row in COMMANDS)):
        parts += [f"## {' '.join(('tlkit', *command))}", "", "```text", help_of(*command), "```", ""]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write or check both files; return the exit code."""
    wanted = {MAP: map_page(), CLI: cli()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if "--check" in arguments:
        print(f"stale: {names}. Run `make docs`." if stale else "the generated docs are up to date.")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8", newline="\n")
    print(f"written: {names}." if stale else "nothing to write: the generated docs are up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
