"""The commands that findings recommend: with the options of the audit that found them, and an unused output path."""

import itertools
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

from tlkit.options.commands import AuditConfig, FinetuneConfig
from tlkit.options.option import Options, as_word

# options that are not carried over: where to read and write, and what the finding itself sets
_OWN = {"images", "out", "overwrite", "resume", "moved_to", "dry_run", "write_fixes", "strict", "log"}


def finetune(asked: Options | None, images: str, *more: str, own: bool = True) -> str:
    """`tlkit finetune` on `images` with the options of `asked` and `more`.

    Args:
        asked: options of the audit, or of the run that contained it; None for none.
        images: what to train on, as typed.
        more: flags and values that the finding adds, such as `--balance`, `auto`.
        own: whether these are the images of `asked`; only then do its fixes and groups apply.
    """
    taken = set() if own else {"fixes", "group_by"}
    return _line("finetune", FinetuneConfig, asked, images, taken, more, free("run"))


def audit(asked: Options | None, images: str, *more: str) -> str:
    """`tlkit audit` on `images` with the network of `asked`, so that it reproduces the findings."""
    return _line("audit", AuditConfig, asked, images, set(), more, free("audit"))


def free(name: str) -> str:
    """The name if no such path exists, else the first unused one of `name-2`, `name-3`, …."""
    stem, suffix = Path(name).stem, Path(name).suffix
    names = itertools.chain([name], (f"{stem}-{number}{suffix}" for number in itertools.count(2)))
    return next(one for one in names if not Path(one).exists())


def _line(
    name: str,
    kind: type[Options],
    asked: Options | None,
    images: str,
    taken: set[str],
    more: tuple[str, ...],
    out: str,
) -> str:
    words = ["tlkit", name, images]
    if not isinstance(asked, kind):
        taken = taken | {"batch_size"}  # inference batch in one command, training batch in the other
    for spec in fields(kind) if asked is not None else ():
        value = getattr(asked, spec.name, MISSING)
        flag = f"--{spec.name.replace('_', '-')}"
        if spec.name in _OWN | taken or flag in more or value in (MISSING, None, spec.default):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, as_word(value)]
    words += more
    default = next(spec.default for spec in fields(kind) if spec.name == "out")
    return shlex.join(words + (["--out", out] if out != default else []))
