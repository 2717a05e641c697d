"""How options work: declared once as a dataclass field, they are checked, read from TOML and written to it.

One field is at once a Python argument, a flag (`--image-size`), a TOML key (`image_size`) and a line of help.
"""

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import missing

C = TypeVar("C", bound="Options")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(e[+-]?\d+)?\s*", re.IGNORECASE)  # 0,001


def option(
    default: Any,
    help: str,
    *,
    choices: Collection[str] = (),
    low: float | None = None,
    high: float | None = None,
    group: str = "",
) -> Any:
    """A dataclass field with its help, its choices and its inclusive range."""
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high, "group": group})


def argument(help: str, *, default: Any = MISSING, choices: Collection[str] = (), exists: bool = False) -> Any:
    """A field that is positional on the command line; required unless it has a default.

    Args:
        help: what it is.
        default: its value unless given.
        choices: the names it may be.
        exists: whether it is a path that must be there.
    """
    metadata = {"help": help, "choices": choices, "argument": True, "exists": exists}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checks every field against its declared choices and range; subclasses check combinations in `check`."""

    def __post_init__(self) -> None:
        """Normalise case of choices, then refuse what is out of range."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            flag = "--" + spec.name.replace("_", "-")
            choices = spec.metadata.get("choices")
            if choices and value is not None:
                names = value if isinstance(value, tuple) else (value,)
                for name in names:
                    if name not in choices:
                        raise unknown_name(f"a value of {flag}", str(name), choices)
            low, high = spec.metadata.get("low"), spec.metadata.get("high")
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if number is None or isinstance(number, str):
                    continue
                if (low is not None and number < low) or (high is not None and number > high):
                    wanted = (
                        f"at least {low}"
                        if high is None
                        else f"between {low} and {high}"
                        if low is not None
                        else f"at most {high}"
                    )
                    raise TlkitError(f"{flag} is {number}, expected {wanted}.", f"see `--help` for {flag}.")
        self.check()

    def check(self) -> None:
        """Refuse combinations that make no sense; nothing to refuse here."""

    def as_dict(self) -> dict[str, Any]:
        """Field name -> JSON-able value."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}


def is_list(annotation: Any) -> bool:
    """Whether a field's type is a tuple (a comma-separated flag)."""
    return any(getattr(part, "__origin__", None) is tuple for part in (annotation, *get_args(annotation)))


def scalar_type(annotation: Any) -> type:
    """The type of one value of a field: `tuple[int, ...] | None` gives int."""
    for part in (annotation, *get_args(annotation)):
        if getattr(part, "__origin__", None) is tuple:
            return get_args(part)[0]
    plain = [part for part in get_args(annotation) if part is not type(None)]
    return plain[0] if plain else annotation


def coerce(name: str, value: Any, annotation: Any, place: str) -> Any:
    """`value` as the field's type: lists to tuples, "a,b" to ("a", "b"), whole numbers to float.

    Raises:
        TlkitError: when it cannot be, naming `place` (a flag or a file and key).
    """
    wanted = scalar_type(annotation)
    if value is None:
        return None
    if is_list(annotation):
        if wanted is float and isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
            first, _, second = value.strip().partition(",")
            raise TlkitError(
                f"{place} is {value!r}, which may be one number with a decimal comma or two numbers.",
                f"write {first}.{second} for one number, {first}.0,{second.lstrip('0') or 0}.0 for two.",
            )
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
        return tuple(_scalar(name, item.strip() if isinstance(item, str) else item, wanted, place) for item in items)
    return _scalar(name, value, wanted, place)


def _scalar(name: str, value: Any, wanted: type, place: str) -> Any:
    if wanted is bool or isinstance(value, bool):
        if wanted is bool and isinstance(value, bool):
            return value
        raise TlkitError(
            f"{place} is {value!r}, expected {'true or false' if wanted is bool else wanted.__name__}.",
            f"correct {name}.",
        )
    try:
        parsed = wanted(value)
        if wanted is int and isinstance(value, float) and parsed != value:
            raise ValueError
    except (TypeError, ValueError):
        kind = {int: "a whole number", float: "a number", str: "text"}[wanted]
        right = value.replace(",", ".") if isinstance(value, str) else ""
        ask = f"did you mean {right}? Numbers have a decimal point." if _DECIMAL_COMMA.fullmatch(str(value)) else ""
        raise TlkitError(f"{place} is {value!r}, expected {kind}.", ask or f"correct {name}.") from None
    return parsed


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file; tables are only for the eye (`[head]` with `dropout` is `dropout`)."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TlkitError(f"{str(path)!r} does not exist.", "give the path of a TOML file to --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TlkitError(f"{path} is not valid TOML: {error}.", "keys look like `epochs = 10`, one a line.") from error
    flat: dict[str, Any] = {}
    for key, value in content.items():
        for name, inner in (value if isinstance(value, dict) else {key: value}).items():
            if name in flat:
                raise TlkitError(f"{path} gives {name!r} twice.", "keep one of them.")
            flat[name] = inner
    return flat


def resolve(kind: type[C], given: Mapping[str, Any], file: Path | None = None) -> C:
    """Defaults, overridden by the file, overridden by what was given (None means not given).

    Raises:
        TlkitError: for unknown keys (all of them, with the nearest known one) and bad values.
    """
    values = _checked(kind, read_toml(file), f"{file}: ", "{}") if file else {}
    values |= _checked(kind, given, "", "--{}")
    missing = [spec.name for spec in fields(kind) if spec.default is MISSING and spec.name not in values]
    if missing:
        raise TlkitError(f"{', '.join(missing)} not given.", "see `--help`.")
    return kind(**values)


def _checked(kind: type[Options], source: Mapping[str, Any], where: str, how: str) -> dict[str, Any]:
    """The values of one source, in the types of the fields."""
    hints = get_type_hints(kind)
    unknown = [name for name in source if name not in hints]
    if unknown:
        guesses = [
            f"{name!r} (did you mean {guess!r}?)" if (guess := nearest(name, hints)) else repr(name) for name in unknown
        ]
        raise TlkitError(f"{where}unknown option {', '.join(guesses)}.", f"known: {', '.join(hints)}.")
    places = {name: where + how.format(name.replace("_", "-") if how != "{}" else name) for name in source}
    return {name: coerce(name, value, hints[name], places[name]) for name, value in source.items() if value is not None}


def refuse_missing(config: Options) -> None:
    """Raise for a path that does not exist, before anything slow is loaded.

    Raises:
        TlkitError: naming it.
    """
    for spec in fields(config):
        value = getattr(config, spec.name)
        if spec.metadata.get("exists") and value is not None and not Path(value).exists():
            raise missing(str(value), f"expected: {spec.metadata['help']}")


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines "name: old -> new" for every option that differs."""
    names = dict.fromkeys([*old, *new])
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def write_toml(config: Options) -> str:
    """The config as TOML text, grouped by table; options without a value are left out."""
    tables: dict[str, list[str]] = {}
    for spec in fields(config):
        value = getattr(config, spec.name)
        if value is not None:
            text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
            tables.setdefault(spec.metadata.get("group", "").lower(), []).append(f"{spec.name} = {text}")
    plain = tables.pop("", [])
    return "\n".join([*plain, *(line for name, lines in tables.items() for line in ("", f"[{name}]", *lines))]) + "\n"
