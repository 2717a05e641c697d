"""How options work: declared once as a dataclass field, they are checked, read from TOML and written to it.

One field gives the Python argument, the flag (`--image-size`), the TOML key (`image_size`) and the line of help.
"""

import contextlib
import csv
import functools
import json
import math
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import missing
from tlkit.base.machine import try_to_write

COMMANDS = {
    "train": "finetune",
    "fit": "finetune",
    "tune": "finetune",
    "fine-tune": "finetune",
    "retrain": "finetune",
    "resume": "finetune --resume",
    "test": "evaluate",
    "eval": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "extract": "features",
    "embed": "features",
    "embeddings": "features",
    "check": "audit",
    "clean": "audit",
    "convert": "export",
    "models": "backbones",
    "list": "backbones",
    "download": "weights fetch",
    "diff": "compare",
    "info": "doctor",
    "version": "--version",
}

# our option -> its names in other tools, without leading dashes
_ELSEWHERE = {
    "learning-rate": ("lr", "lr0", "rate", "max-lr", "base-lr"),
    "weight-decay": ("wd", "decay"),
    "label-smoothing": ("smoothing", "ls"),
    "batch-size": ("bs", "batch", "b"),
    "image-size": ("size", "img-size", "imgsz", "img", "input-size", "resolution", "target-size", "crop-size"),
    "backbone": ("model", "arch", "architecture", "network", "net", "base-model", "model-name", "base"),
    "weights": ("pretrained", "checkpoint", "ckpt"),
    "epochs": ("epoch", "num-epochs", "n-epochs", "max-epochs", "num-train-epochs"),
    "minutes": ("time", "time-limit", "max-time", "budget"),
    "patience": ("early-stopping", "early-stop", "early-stopping-patience"),
    "optimizer": ("optim", "opt", "optimiser"),
    "augment": ("augmentation", "aug", "data-augmentation", "transforms"),
    "balance": ("class-weight", "class-weights", "weighted", "oversample"),
    "stages": ("freeze", "frozen", "unfrozen", "train-layers"),
    "blocks": ("unfreeze-layers", "num-layers", "layers"),
    "val": ("val-size", "val-split", "validation", "validation-split", "validation-size"),
    "test": ("test-size", "test-split", "holdout"),
    "group-by": ("group", "groups", "patient", "subject"),
    "validate": ("folds", "cv", "kfold", "k-folds", "cross-validation"),
    "seed": ("random-state", "random-seed", "manual-seed"),
    "out": ("o", "output", "output-dir", "out-dir", "outdir", "save-dir", "save", "project", "dest", "destination"),
    "overwrite": ("force", "f", "exist-ok", "replace", "y"),
    "dry-run": ("n", "plan", "what-if"),
    "precision": ("fp16", "half", "amp", "mixed-precision", "dtype"),
    "pool": ("pooling",),
    "pooling": ("pool",),
    "reduce": ("pca", "n-components", "dim"),
    "top": ("topk", "top-k", "k"),
    "class-name": ("class", "target", "label"),
    "format": ("to", "include", "type"),
    "log": ("tracker", "logger", "wandb", "mlflow", "report-to"),
    "tta": ("augment", "test-time-augmentation"),
    "quiet": ("silent", "s"),
    "help-all": ("help-full", "full-help"),
}
# options of other tools that do not exist here, and what to use instead
_INSTEAD = {
    **dict.fromkeys(
        ("device", "devices", "gpu", "gpus", "cuda", "cpu", "accelerator", "no-cuda"),
        "tlkit finds the devices by itself, and `tlkit doctor` lists them; put CUDA_VISIBLE_DEVICES= (empty) before "
        "the command to keep it off the GPU; finetune trains on several devices with --devices.",
    ),
    **dict.fromkeys(
        ("workers", "num-workers", "jobs", "n-jobs", "j", "threads"),
        "tlkit uses every core available to the process; `taskset -c 0,1` before the command gives it fewer.",
    ),
    **dict.fromkeys(
        ("data", "data-dir", "dataset", "data-path", "images", "input", "input-dir", "source", "train-dir"),
        "images are given without a flag, after the command: tlkit {command} IMAGES",
    ),
    **dict.fromkeys(
        ("shard", "shards"),
        "features, predict, audit and rank work in shards; tlkit {command} reads what they computed from the store.",
    ),
    **dict.fromkeys(
        ("lora", "peft", "adapters"),
        "low-rank adaptation is no longer offered: on two sets it cost 2 to 12 points of accuracy against the default "
        "(benchmarks/results/recipe.md).",
    ),
    **dict.fromkeys(
        ("search", "trials", "n-trials", "num-trials", "tune", "hpo"),
        "hyperparameter search is no longer offered: with few validation images it picks settings by luck; on two "
        "sets it moved accuracy by -12 to +7 points against the default, -2.5 on average, for 3.6 times its time "
        "(benchmarks/results/recipe.md). The learning rate is found automatically; set --learning-rate, --blocks and "
        "--augment by hand.",
    ),
    **dict.fromkeys(("run", "run-dir"), "the run is given without a flag: tlkit {command} RUN"),
}


def option_meant(typed: str, known: Collection[str], command: str = "") -> str:
    """A hint about an unknown option: the one probably meant, or the alternative; "" if none is close.

    Args:
        typed: the option as typed, with or without its dashes.
        known: the existing options, without leading dashes.
        command: the command's name, for hints that show it.
    """
    plain = typed.lstrip("-").replace("_", "-").lower()
    meant = [ours for ours, names in _ELSEWHERE.items() if plain in names and ours in known]
    found = meant[0] if meant else None if plain in _INSTEAD else nearest(plain, known)
    if found:
        return f"did you mean --{found}?"
    return _INSTEAD.get(plain, "").format(command=command)


def command_meant(typed: str, known: Iterable[str]) -> str:
    """The command line probably meant by an unknown command, without `tlkit`; "" if none is close."""
    found = nearest(typed, [*known, *COMMANDS]) or ""
    return COMMANDS.get(found, found)


# -- Declaring options ---

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
    writes: str | tuple[str, ...] = "",
    flag: str = "",
) -> Any:
    """A dataclass field with its help, its choices and its inclusive range.

    Args:
        default: its default value.
        help: its help text.
        choices: the allowed names.
        low: the minimum.
        high: the maximum.
        group: its section of the help.
        writes: `file` or `folder` if the command writes to it; or the suffixes that such a file may have.
        flag: its name on the command line, if different from the field's.
    """
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "group": group, "writes": writes}
    return field(default=default, metadata=metadata | {"flag": flag})


def flag_of(spec: Field[Any]) -> str:
    """The flag of a field, such as `--image-size`."""
    return "--" + (spec.metadata.get("flag") or spec.name.replace("_", "-"))


def argument(help: str, *, default: Any = MISSING, choices: Collection[str] = (), exists: bool = False) -> Any:
    """A field that is positional on the command line; required unless it has a default.

    Args:
        help: its help text.
        default: its default value; required if missing.
        choices: the allowed names.
        exists: whether it is a path, or paths, that must exist.
    """
    metadata = {"help": help, "choices": choices, "argument": True, "exists": exists}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Check every field against its declared choices and range; subclasses check combinations in `check`."""

    def __post_init__(self) -> None:
        """Refuse values outside the declared choices and range, then call `check`."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            flag = flag_of(spec)
            choices = spec.metadata.get("choices")
            if choices and value is not None:
                names = value if isinstance(value, tuple) else (value,)
                for name in names:
                    if name not in choices:
                        what = spec.name.upper() if spec.metadata.get("argument") else flag
                        raise unknown_name(f"a value of {what}", str(name), choices)
            if choices and isinstance(value, tuple):
                _refuse_twice(flag, value, choices)
            low, high = spec.metadata.get("low"), spec.metadata.get("high")
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if number is None or isinstance(number, str):
                    continue
                if isinstance(number, float) and not math.isfinite(number):
                    raise TlkitError(f"{flag} is {number}, expected a number.", f"see `--help` for {flag}.")
                if (low is not None and number < low) or (high is not None and number > high):
                    wanted = (
                        f"at least {low}"
                        if high is None
                        else f"between {low} and {high}"
                        if low is not None
                        else f"at most {high}"
                    )
                    percent = high is not None and high <= 1 < number <= 100 * high  # 15 meant as 15 %
                    hint = (
                        f"a fraction is expected: {flag} {number / 100:g}." if percent else f"see `--help` for {flag}."
                    )
                    raise TlkitError(f"{flag} is {number}, expected {wanted}.", hint)
        self.check()

    def check(self) -> None:
        """Refuse combinations that make no sense; the base class accepts all."""

    def as_dict(self) -> dict[str, Any]:
        """The values by field name, as JSON can hold them."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}


def _refuse_twice(flag: str, names: Sequence[str], choices: Collection[str]) -> None:
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None or not names:
        told = "name each once." if names else f"name one or more of {', '.join(choices)}."
        raise TlkitError(f"{flag} names {'none' if twice is None else f'{twice!r} twice'}.", told)


# -- Lists on the command line are rows of CSV: an item with a comma is quoted -----


def listed(text: str) -> list[str]:
    """The parts of a comma-separated list; quotation marks that are not valid CSV quoting are kept as they are."""
    parts = text.split(",")
    if '"' in text:
        with contextlib.suppress(csv.Error):
            parts = next(csv.reader([text], skipinitialspace=True, strict=True))
    return [part.strip() for part in parts]


def as_word(value: Any) -> str:
    """A value as written on the command line; a list in the form that `listed` reads."""
    if not isinstance(value, tuple):
        return str(value)
    texts = (str(part) for part in value)
    return ",".join(f'"{text.replace(chr(34), 2 * chr(34))}"' if {",", '"'} & {*text} else text for text in texts)


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
    """Convert `value` to the field's type: lists to tuples, "a,b" to ("a", "b"), whole numbers to float.

    Raises:
        TlkitError: if it cannot be converted, naming `place` (a flag, or a file and key).
    """
    wanted = scalar_type(annotation)
    if value is None:
        return None
    if is_list(annotation):
        if wanted is float and isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
            first, _, second = value.strip().partition(",")
            raise TlkitError(
                f"{place} is {value!r}, which could be one number with a decimal comma, or two numbers.",
                f"write {first}.{second} for one number, {first}.0,{second.lstrip('0') or 0}.0 for two.",
            )
        items = listed(value) if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
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
        raise TlkitError(f"{place} is {value!r}, expected {kind}.", _number_meant(place, value)) from None
    return parsed


def _number_meant(place: str, value: Any) -> str:
    """A hint at what was meant by a value that is not a number."""
    if _DECIMAL_COMMA.fullmatch(str(value)):
        return f"did you mean {value.replace(',', '.')}? Numbers are written with a decimal point."
    flag = place if place.startswith("--") else f"{place} ="
    sides = re.fullmatch(r"\(?\s*(\d+)\s*[x×*,]\s*(\d+)\s*\)?", str(value).lower())
    if sides and sides[1] == sides[2]:
        return f"give one side only, the input is square: {flag} {sides[1]}"
    if sides:
        return f"the input is square, so give one side only: {flag} {max(sides[1], sides[2], key=int)}; --fit pad keeps the aspect ratio."
    if share := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value)):
        return f"a fraction is expected: {flag} {float(share[1]) / 100:g}"
    number = re.match(r"[-+]?\d+", str(value))
    return f"for example: {flag} {number[0] if number else 1}"


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file; table names are ignored (`dropout` under `[head]` is `dropout`)."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TlkitError(f"{str(path)!r} does not exist.", "give the path of a TOML file to --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TlkitError(
            f"{path} is not valid TOML: {error}.", "write one key per line, such as `epochs = 10`."
        ) from error
    flat: dict[str, Any] = {}
    for key, value in content.items():
        for name, inner in (value if isinstance(value, dict) else {key: value}).items():
            if name in flat:
                raise TlkitError(f"{path} gives {name!r} twice.", "keep one of them.")
            flat[name] = inner
    return flat


def resolve(kind: type[C], given: Mapping[str, Any], file: Path | None = None) -> C:
    """Build the options: defaults, overridden by the file, overridden by `given` (None means not given).

    Raises:
        TlkitError: for unknown keys (all of them, with the nearest known ones) and bad values.
    """
    values = _checked(kind, read_toml(file), f"{file}: ", "{}") if file else {}
    values |= _checked(kind, given, "", "--{}")
    missing = [spec.name for spec in fields(kind) if spec.default is MISSING and spec.name not in values]
    if missing:
        raise TlkitError(f"{', '.join(missing)} not given.", "see `--help`.")
    return kind(**values)


@functools.cache  # a scikit-learn search asks a hundred times
def _hints(kind: Any) -> dict[str, Any]:
    """The types of the fields by name."""
    return get_type_hints(kind)


def _checked(kind: type[Options], source: Mapping[str, Any], where: str, how: str) -> dict[str, Any]:
    """The values of one source, converted to the types of the fields."""
    hashed: Any = kind  # a class is hashable even if its instances are not
    hints = _hints(hashed)
    unknown = [name for name in source if name not in hints]
    if unknown:
        known = [option.replace("_", "-") for option in hints]
        meant = {name: _in_python(option_meant(name, known)) for name in unknown}
        guesses = [f"{name!r} ({said})" if said.startswith("did") else repr(name) for name, said in meant.items()]
        notes = [said for said in meant.values() if said and not said.startswith("did")]
        guessed = all(meant.values())
        listed = "`--help-all` lists every option." if guessed else f"known: {', '.join(hints)}."
        raise TlkitError(f"{where}unknown option {', '.join(guesses)}.", " ".join([*notes, listed]))
    places = {name: where + how.format(name.replace("_", "-") if how != "{}" else name) for name in source}
    return {name: coerce(name, value, hints[name], places[name]) for name, value in source.items() if value is not None}


def _in_python(sentence: str) -> str:
    """Rewrite `did you mean --image-size?` for a TOML key or Python argument."""
    found = re.match(r"did you mean --([a-z0-9-]+)\?", sentence)
    return f"did you mean {found[1].replace('-', '_')!r}?" if found else sentence


def refuse_missing(config: Options) -> None:
    """Raise for a path that does not exist, before anything slow is loaded.

    Raises:
        TlkitError: naming it.
    """
    for spec in fields(config):
        value = getattr(config, spec.name) if spec.metadata.get("exists") else None
        for path in value if isinstance(value, tuple) else (value,):
            if path is not None and not Path(path).exists():
                wanted = spec.metadata["help"].rstrip(".")
                raise missing(str(path), f"expected as {spec.name.upper()}: {wanted[0].lower()}{wanted[1:]}.")


def written_paths(config: Options) -> dict[str, tuple[Path, str]]:
    """The paths that the command will write, by flag, each with `file` or `folder`."""
    named = [(spec, getattr(config, spec.name)) for spec in fields(config) if spec.metadata.get("writes")]
    kinds = {spec.name: "folder" if spec.metadata["writes"] == "folder" else "file" for spec, _ in named}
    return {flag_of(spec): (Path(it), kinds[spec.name]) for spec, it in named if it}


def refuse_unwritable(config: Options) -> None:
    """Raise for an output path that is not writable or of the wrong kind, before anything slow is loaded.

    Raises:
        TlkitError: naming it.
    """
    _refuse_suffixes(config)
    for flag, (path, kind) in written_paths(config).items():
        if path.exists() and path.is_dir() != (kind == "folder"):
            found = "folder" if path.is_dir() else "file"
            raise TlkitError(f"{flag} {str(path)!r} is a {found}, expected a {kind}.", f"choose another {flag}.")
        parent = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        if path.exists() and kind == "file":
            parent = parent.parent  # a file is replaced by a rename, so its folder must be writable
        if not parent.is_dir():
            raise TlkitError(f"{flag} {str(path)!r}: {str(parent)!r} is a file.", f"choose another {flag}.")
        try_to_write(parent)


def _refuse_suffixes(config: Options) -> None:
    """Raise for a file whose suffix is not a format that the command writes."""
    for spec in fields(config):
        path, allowed = getattr(config, spec.name), spec.metadata.get("writes")
        if isinstance(allowed, tuple) and path and not Path(path).is_dir() and Path(path).suffix.lower() not in allowed:
            ends = f"ends in {Path(path).suffix!r}" if Path(path).suffix else "has no suffix"
            raise TlkitError(
                f"{flag_of(spec)} {path!r} {ends}.",
                f"the suffix chooses the format: end it in {' or '.join(allowed)}.",
            )


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `name: old -> new` for every option that differs."""
    names = dict.fromkeys([*old, *new])
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def write_toml(config: Options) -> str:
    """The options as TOML text, grouped in tables; options without a value are omitted."""
    tables: dict[str, list[str]] = {}
    for spec in fields(config):
        value = getattr(config, spec.name)
        if value is not None:
            text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
            tables.setdefault(spec.metadata.get("group", "").lower(), []).append(f"{spec.name} = {text}")
    plain = tables.pop("", [])
    return "\n".join([*plain, *(line for name, lines in tables.items() for line in ("", f"[{name}]", *lines))]) + "\n"
