"""Commands as functions, with signatures and help generated from their options.

Keras is loaded only when a function is called, so that completion and `tlkit.finetune?` answer at once.
"""

import ast
import importlib.util
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path, PurePath
from typing import Any, get_type_hints

from tlkit import pipelines
from tlkit.base.errors import TlkitError
from tlkit.base.remote import offline_if
from tlkit.base.story import Story, story_for_python
from tlkit.options import commands
from tlkit.options.option import Options, flag_of, is_list, resolve

GROUPS = ("Backbone", "Features", "Head", "Training", "Data", "Split", "Output")  # the others come last
FURTHER = {
    "story": (
        Story | None,
        None,
        "receives progress and messages; default: the output of the notebook cell, else lines on stderr.",
    ),
    "offline": (bool, False, "Use no network; the same as TLKIT_OFFLINE=1."),
    "verbose": (bool, True, "False prints errors only."),
}


def function(name: str) -> Callable[..., Any]:
    """A command as a function: its arguments by position, its flags and those of `FURTHER` by keyword.

    It returns what `--json` prints; `finetune` and `evaluate` return it as a `Run` and an `Evaluated`.
    """
    kind, given_by = options_of(name), [spec.name for spec in fields(options_of(name)) if _is_argument(spec)]

    def command(
        *arguments: Any, story: Story | None = None, offline: bool = False, verbose: bool = True, **options: Any
    ) -> Any:
        many = {key for key, hint in get_type_hints(kind).items() if key in given_by and is_list(hint)}
        if len(arguments) > len(given_by):
            raise TypeError(_too_many(name, given_by, many, len(arguments)))
        listener = story or story_for_python(verbose)
        config = None
        given = {key: _plain(value) for key, value in (dict(zip(given_by, arguments, strict=False)) | options).items()}
        alone = {key: (value,) for key, value in given.items() if key in many and isinstance(value, str)}
        try:
            config = resolve(kind, given | alone)
            with offline_if(offline), pipelines.refusing_what_lacks(name):
                return _as_object(name, pipelines.carry_out(name, config, listener))
        except (TlkitError, KeyboardInterrupt) as stopped:
            if config and isinstance(stopped, KeyboardInterrupt):
                _say_how_to_go_on(name, config, listener)
            if isinstance(stopped, TlkitError) and (flags := _flags_named(stopped, kind)):
                stopped.add_note(f"in Python: {', '.join(flags)}")
            if os.environ.get("TLKIT_DEBUG"):
                raise
            raise stopped.with_traceback(None) from None  # the traceback within tlkit tells the caller nothing

    command.__name__ = command.__qualname__ = name
    command.__module__ = "tlkit"
    command.__doc__ = described(name, kind)
    command.__signature__ = signature(kind)  # type: ignore[attr-defined]
    return command


def _say_how_to_go_on(name: str, config: Options, story: Story) -> None:
    left = pipelines.left_by(config) if name == "finetune" else None
    if left:
        run, unfinished = left
        story.say(
            f"interrupted; continue with: tlkit.finetune(resume={str(run)!r})" if unfinished else f"{run} is as it was."
        )


def _flags_named(error: TlkitError, kind: type[Options]) -> list[str]:
    """Flags that an error mentions, as keyword arguments where these read differently: `--no-flip` is `flip=False`."""
    said = re.findall(r"(?<![\w-])--[a-z][a-z-]*", f"{error.message} {error.hint}")
    hints = get_type_hints(kind)
    written: dict[str, str] = {}
    for spec in fields(kind):
        flag, name = flag_of(spec), spec.name
        if hints[name] is bool:
            written |= {flag: f"{name}=True", f"--no-{flag[2:]}": f"{name}=False"}
        elif flag != f"--{name}":
            written[flag] = f"{name}=..."
    return [written[flag] for flag in dict.fromkeys(said) if flag in written]


def _too_many(name: str, given_by: list[str], many: set[str], count: int) -> str:
    """The message for too many positional arguments, with how to pass several of one kind."""
    takes = ", ".join(given_by) or "no arguments"
    said = f"tlkit.{name} takes {takes} by position, but {count} were given"
    if not many:
        return f"{said}; pass everything else by keyword, see help(tlkit.{name})"
    own = [key for key in given_by if key not in many]
    return f"{said}; pass several {' '.join(many)} as one list: tlkit.{name}({', '.join([*own, '[..., ...]'])})"


def options_of(name: str) -> type[Options]:
    """The options dataclass of a command."""
    return getattr(commands, f"{name.capitalize()}Config")


def signature(kind: type[Options]) -> inspect.Signature:
    """The signature: arguments first, then keywords, with defaults and types."""
    hints = get_type_hints(kind)

    def parameter(spec: Field[Any]) -> inspect.Parameter:
        how = inspect.Parameter.POSITIONAL_OR_KEYWORD if _is_argument(spec) else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if spec.default is MISSING else spec.default
        return inspect.Parameter(spec.name, how, default=default, annotation=hints[spec.name])

    own = [parameter(spec) for spec in sorted(fields(kind), key=_place)]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default, _) in FURTHER.items()
    ]
    return inspect.Signature([*own, *more])


def described(name: str, kind: type[Options]) -> str:
    """The docstring: the summary, every option with type, default, choices, range and help, and the result."""
    summary, rest = _of_pipeline(name)
    hints = get_type_hints(kind)
    ordered = sorted(fields(kind), key=_place)
    lines = [f"    {spec.name} ({_typed(spec, hints[spec.name])}): {spec.metadata['help']}" for spec in ordered]
    lines += [f"    {further} ({default!r}): {text}" for further, (_, default, text) in FURTHER.items()]
    return "\n".join([summary, "", f"The same as `tlkit {name}`.", "", "Args:", *lines, *(["", rest] if rest else [])])


def _typed(spec: Field[Any], hint: Any) -> str:
    """The type, default and range of an option: `int, default 32, 1..4096`."""
    low, high, choices = (spec.metadata.get(key) for key in ("low", "high", "choices"))
    parts = [hint.__name__ if isinstance(hint, type) else str(hint)]
    parts += ["required" if spec.default is MISSING else f"default {spec.default!r}"]
    parts += [f"{'' if low is None else low}..{'' if high is None else high}"] * (low is not None or high is not None)
    parts += [f"one of {', '.join(choices or ())}"] * bool(choices)
    return ", ".join(parts)


def _of_pipeline(name: str) -> tuple[str, str]:
    """The summary and the further sections of a pipeline's docstring, read without importing it."""
    found = importlib.util.find_spec(pipelines.place_of(name))
    source = Path(found.origin or "").read_text(encoding="utf-8") if found else ""
    tree = ast.parse(source)
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    summary, _, rest = (ast.get_docstring(run) or "").partition("\n\n")
    return summary, rest.strip()


def _as_object(name: str, result: dict[str, Any]) -> dict[str, Any]:
    from tlkit.python.run import Evaluated, Run

    if name == "finetune" and "model" in result:
        return Run(result)
    return Evaluated(result) if name == "evaluate" else result


def _place(spec: Field[Any]) -> tuple[bool, int]:
    """Sort key: arguments first, then options by group."""
    group = spec.metadata.get("group", "")
    return not _is_argument(spec), GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _is_argument(spec: Field[Any]) -> bool:
    return bool(spec.metadata.get("argument"))


def _plain(value: Any) -> Any:
    """Paths as text, so that options remain JSON-serialisable; a run as its folder."""
    if isinstance(value, dict) and "out" in value:
        return value["out"]
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return str(value) if isinstance(value, PurePath) else value
