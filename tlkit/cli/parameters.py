"""Options dataclasses to Typer commands: one field, one flag; the help and the default come from the field."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Optional, get_type_hints

import typer
from typer.core import TyperCommand

from tlkit.cli.commands import Command
from tlkit.options.option import Options, is_list, scalar_type

# Flags that every command has: name -> (type, default, option).
COMMON: dict[str, tuple[Any, Any, Any]] = {
    "config_file": (
        Optional[str],  # noqa: UP045 - Typer reads this form on every Python
        None,
        typer.Option("--config", metavar="FILE.toml", help="Read options from a TOML file; flags override it."),
    ),
    "as_json": (bool, False, typer.Option("--json", help="Print one JSON object on stdout; the story goes to stderr.")),
    "offline": (
        bool,
        False,
        typer.Option("--offline", help="Bring nothing over the network; the same as TLKIT_OFFLINE=1."),
    ),
    "quiet": (bool, False, typer.Option("--quiet", "-q", help="Say nothing but errors.")),
    "verbose": (bool, False, typer.Option("--verbose", "-v", help="Say more.")),
}
PANEL = "Common"
# Panels of `--help`, most asked-for first; groups that are not named here come last.
PANELS = ("Output", "Backbone", "Features", "Data", "Split", "Head", "Training")


def typer_function(command: Command, act: Callable[..., None]) -> Callable[..., None]:
    """A function with the signature that Typer turns into the command's arguments and flags.

    Args:
        command: its row.
        act: called with the command, the options that were given, and the common flags.
    """
    own = parameters(command.options)

    def function(**values: Any) -> None:
        common = {name: values.pop(name) for name in COMMON}
        act(command, {name: value for name, value in values.items() if value not in (None, [])}, **common)

    common = [_parameter(name, kind, default, spec) for name, (kind, default, spec) in COMMON.items()]
    for _, _, spec in COMMON.values():
        spec.rich_help_panel = PANEL
    everything = [*own, *common]
    function.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
    function.__name__ = command.name
    # \b keeps the lines that follow as they are.
    function.__doc__ = command.help + "\n\n\b\nExamples:\n" + "\n".join(f"  {example}" for example in command.examples)
    return function


def parameters(options: type[Options]) -> list[inspect.Parameter]:
    """One parameter a field: arguments first, then flags panel by panel."""
    hints = get_type_hints(options)

    def place(spec: Field) -> tuple[bool, int]:
        group = spec.metadata.get("group")
        return not spec.metadata.get("argument"), PANELS.index(group) if group in PANELS else len(PANELS)

    return [_of_field(spec, hints[spec.name]) for spec in sorted(fields(options), key=place)]


def _of_field(spec: Field, hint: Any) -> inspect.Parameter:
    """None means "not given", so that a config file can tell a default from a wish."""
    words = spec.metadata["help"]
    kind = scalar_type(hint)
    if spec.metadata.get("argument"):
        many = is_list(hint)
        required = spec.default is MISSING
        plain: Any = list[str] if many else (str if required else Optional[str])  # noqa: UP045
        given = typer.Argument(help=words + _default(spec), show_default=False)
        return _parameter(spec.name, plain, inspect.Parameter.empty if required else None, given)
    flag = "--" + spec.name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if kind is bool and spec.default else [flag]
    # Numbers with decimals come as text: `resolve` reads them, and asks about a decimal comma.
    plain = bool if kind is bool else (str if is_list(hint) or kind is float else kind)
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


# -- Help as plain text in sections: rich would draw boxes, and take longer to import than all the rest ---


class SectionedCommand(TyperCommand):
    """A command whose flags are listed under the panel they belong to."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for the arguments and one for each panel, in the order of the flags."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Common"
                sections.setdefault(panel, []).append(record)
        for panel, records in sections.items():
            with formatter.section(panel):
                formatter.write_dl(records)
