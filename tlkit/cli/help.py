"""Help and usage errors as plain text: rich would draw boxes and take longer to import than everything else."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tlkit.cli import commands
from tlkit.options.option import command_meant, option_meant

UsageError: type[Any] = typer.BadParameter.__mro__[1]  # the base of all usage errors, which Typer does not export
ALL = "tlkit.help-all"
USAGE = 2  # exit code


class SectionedCommand(TyperCommand):
    """A command whose flags are listed by panel; `--help` lists only its `first` ones."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for the arguments and one per panel, in the order of the flags."""
        row = next(row for row in commands.COMMANDS if row.name == self.name)
        everything = ctx.meta.get(ALL, False) or not row.first
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda it: _place(it, () if everything else row.first)):
            record = parameter.get_help_record(ctx)
            panel = getattr(parameter, "rich_help_panel", None) or "Common"
            if record is None or parameter.name == "help_all":
                continue
            if parameter.param_type_name == "argument":
                sections.setdefault("Arguments", []).append(record)
            elif everything:
                sections.setdefault(panel, []).append(record)
            elif parameter.name in row.first or panel == "Common":
                sections.setdefault("Common" if panel == "Common" else "Options", []).append(record)
        for panel, records in sections.items():
            with formatter.section(panel):
                formatter.write_dl(records)
        if not everything:
            formatter.write_paragraph()
            formatter.write_text(f"All options of this command: tlkit {self.name} --help-all")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; usage errors are reworded."""
        return _in_our_words(ctx, args, lambda: super(SectionedCommand, self).parse_args(ctx, list(args)))


class Commands(TyperGroup):
    """The group of commands, which lists summaries without cutting them short."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one entry per command, over several lines if needed."""
        with formatter.section("Commands"):
            formatter.write_dl([(row.name, row.help) for row in commands.COMMANDS])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command."""
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        return _in_our_words(ctx, args, lambda: super(Commands, self).parse_args(ctx, list(args)))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; for an unknown one suggest the one meant."""
        names = [row.name for row in commands.COMMANDS]
        if args[0] in names or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        meant = command_meant(args[0], names)
        rest = " " + " ".join(args[1:]) if len(args) > 1 else ""
        hint = f"did you mean: tlkit {meant}{rest}" if meant else f"the commands are {', '.join(names)}."
        raise typer.Exit(refuse(f"tlkit has no command {args[0]!r}.", hint, "--json" in args, USAGE))


def _place(parameter: Any, first: tuple[str, ...]) -> int:
    """Sort key: arguments, then the flags of `first` in order, then the others; without `first` the order is kept."""
    if parameter.param_type_name == "argument" or not first:
        return -1
    return first.index(parameter.name) if parameter.name in first else len(first)


def show_all(ctx: typer.Context, asked: bool) -> None:
    """Print the help with every option and exit."""
    if asked:
        ctx.meta[ALL] = True
        print(ctx.get_help())
        raise typer.Exit


def refuse(message: str, hint: str, as_json: bool, code: int, right: str = "") -> int:
    """Print a refusal on stderr and, if requested, as JSON on stdout; return `code`.

    Args:
        message: what was wrong.
        hint: what to do.
        as_json: whether to print it as JSON on stdout too.
        code: the exit code.
        right: the corrected command, printed on its own line.
    """
    if as_json:
        write_refusal(message, hint)
    lines = (("error:", message), ("hint: ", hint), ("try:  ", right))
    print("\n".join(f"{name} {text}" for name, text in lines if text), file=sys.stderr)
    return code


def write_refusal(message: str, hint: str) -> None:
    """Print the JSON object of a command that failed on stdout."""
    sys.stdout.flush()
    line = json.dumps({"error": message, "hint": hint}) + "\n"
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


# -- Usage errors, reworded -----------------------------------------------------------------


def _in_our_words(ctx: Any, args: list[str], parse: Callable[[], list[str]]) -> list[str]:
    try:
        return parse()
    except UsageError as error:
        message, hint = _words(ctx, error)
        raise typer.Exit(refuse(message, hint, "--json" in args, USAGE)) from error


def _words(ctx: Any, error: Any) -> tuple[str, str]:
    """The message and the hint for a usage error."""
    typed, kind = getattr(error, "option_name", ""), type(error).__name__
    see = f"`{ctx.command_path} --help` shows its usage."
    if kind == "NoSuchOption":
        return f"{ctx.command_path} has no option {_dashed(typed)}.", _option_hint(ctx, _dashed(typed))
    if kind == "BadOptionUsage":
        lacks = "takes no value" if "not take" in error.message else "needs a value"
        return f"{_dashed(typed)} {lacks}.", see
    if kind == "MissingParameter":
        row = next((row for row in commands.COMMANDS if row.name == ctx.command.name), None)
        shown = f"for example: {row.examples[0]}" if row else see
        return f"{error.param.name.upper()} is not given.", shown
    if extra := re.search(r"extra argument.* \((.*)\)$", error.message):
        return f"{extra[1]!r} is one argument too many.", f"options begin with --; {see}"
    return error.format_message(), see


def _dashed(name: str) -> str:
    return name if name.startswith("-") else f"--{name}"


def _option_hint(ctx: Any, typed: str) -> str:
    names = [name for it in ctx.command.params for name in (*it.opts, *it.secondary_opts) if name.startswith("--")]
    known = [name[2:] for name in names]
    if meant := option_meant(typed, known, ctx.command.name):
        return meant
    plain = typed.lstrip("-").replace("-", "_")
    others = [row.name for row in commands.COMMANDS if plain in row.options.__dataclass_fields__]
    if others:
        return f"--{plain.replace('_', '-')} is an option of {', '.join(f'`tlkit {name}`' for name in others)}."
    if ctx.parent is None:
        return "options go after the name of a command; `tlkit --help` lists the commands."
    return f"`{ctx.command_path} --help-all` lists every option."
