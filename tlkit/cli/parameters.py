"""Typer commands from options dataclasses: each field is a flag, with its help and default."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Optional, get_type_hints

import typer

from tlkit.cli.commands import Command
from tlkit.cli.help import show_all
from tlkit.options.option import Options, flag_of, is_list, scalar_type

# Flags of every command: name -> (type, default, option).
COMMON: dict[str, tuple[Any, Any, Any]] = {
    "config_file": (
        Optional[str],  # noqa: UP045 - Typer reads this form on every Python
        None,
        typer.Option("--config", metavar="FILE.toml", help="Read options from a TOML file; flags override it."),
    ),
    "as_json": (bool, False, typer.Option("--json", help="Print one JSON object on stdout; messages go to stderr.")),
    "offline": (
        bool,
        False,
        typer.Option("--offline", help="Use no network; the same as TLKIT_OFFLINE=1."),
    ),
    "quiet": (bool, False, typer.Option("--quiet", "-q", help="Print errors only.")),
    "verbose": (bool, False, typer.Option("--verbose", "-v", help="Print more detail.")),
    "help_all": (bool, False, typer.Option("--help-all", is_eager=True, callback=show_all, help="Show every option.")),
}
PANEL = "Common"
# Panels of `--help`, most used first; groups not named here come last.
PANELS = ("Output", "Backbone", "Features", "Data", "Split", "Head", "Training")


def typer_function(command: Command, act: Callable[..., None]) -> Callable[..., None]:
    """A function with the signature that Typer turns into the command's arguments and flags.

    Args:
        command: its row.
        act: called with the command, the given options and the common flags.
    """
    own = parameters(command.options)

    def function(**values: Any) -> None:
        values.pop("help_all")
        common = {name: values.pop(name) for name in COMMON if name != "help_all"}
        act(command, {name: value for name, value in values.items() if value not in (None, [])}, **common)

    common = [_parameter(name, kind, default, spec) for name, (kind, default, spec) in COMMON.items()]
    for _, _, spec in COMMON.values():
        spec.rich_help_panel = PANEL
    everything = [*own, *common]
    function.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
    function.__name__ = command.name
    # \b keeps the following lines unwrapped.
    function.__doc__ = command.help + "\n\n\b\nExamples:\n" + "\n".join(f"  {example}" for example in command.examples)
    return function


def parameters(options: type[Options]) -> list[inspect.Parameter]:
    """One parameter per field: arguments first, then flags by panel."""
    hints = get_type_hints(options)

    def place(spec: Field) -> tuple[bool, int]:
        group = spec.metadata.get("group")
        return not spec.metadata.get("argument"), PANELS.index(group) if group in PANELS else len(PANELS)

    return [_of_field(spec, hints[spec.name]) for spec in sorted(fields(options), key=place)]


def _of_field(spec: Field, hint: Any) -> inspect.Parameter:
    """The parameter of a field; None means "not given", so that a config file is overridden only by given flags."""
    words = spec.metadata["help"]
    kind = scalar_type(hint)
    if spec.metadata.get("argument"):
        many = is_list(hint)
        required = spec.default is MISSING
        plain: Any = list[str] if many else (str if required else Optional[str])  # noqa: UP045
        given = typer.Argument(help=words + _default(spec), show_default=False)
        return _parameter(spec.name, plain, inspect.Parameter.empty if required else None, given)
    flag = flag_of(spec)
    names = [f"{flag}/--no-{flag[2:]}"] if kind is bool and spec.default else [flag]
    plain = bool if kind is bool else str  # `resolve` converts to numbers and words the errors
    given = typer.Option(
        *names,
        help=words + _choices(spec) + _default(spec),
        show_default=False,
        metavar=None if kind is bool else _metavar(spec, kind, is_list(hint)),
        rich_help_panel=spec.metadata.get("group") or None,
    )
    return _parameter(spec.name, Optional[plain], None, given)  # noqa: UP045


def _metavar(spec: Field, kind: type, many: bool) -> str:
    names = {int: "N", float: "X", str: "TEXT"}
    name = "NAME" if spec.metadata.get("choices") else names[kind]
    return f"{name},..." if many else name


def _choices(spec: Field) -> str:
    choices = spec.metadata.get("choices")
    return f" One of {', '.join(choices)}." if choices else ""


def _default(spec: Field) -> str:
    value = spec.default
    if value is None or value is MISSING or isinstance(value, bool):
        return ""
    return f" [default: {','.join(map(str, value)) if isinstance(value, tuple) else value}]"


def _parameter(name: str, kind: Any, default: Any, spec: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, spec])
