"""The commands that findings advise: for the network and the options of the audit that found them, and free places to write."""

import itertools
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

from tlkit.options.commands import AuditConfig, FinetuneConfig
from tlkit.options.option import Options, as_word

# What a command is told of anew: where it writes and reads, and what is said in the finding itself.
_OWN = {"images", "out", "overwrite", "resume", "moved_to", "dry_run", "write_fixes", "strict", "log"}


def finetune(asked: Options | None, images: str, *more: str, own: bool = True) -> str:
    """`tlkit finetune` on images, as `asked` had it, and with more.

    Args:
        asked: the options of the audit or of the run in which it happened; None for none.
        images: what to train on, as typed.
        more: flags and values that the finding adds; `--balance`, `auto`.
        own: whether these are the images that `asked` was about: then its fixes and groups apply to them.
    """
    taken = set() if own else {"fixes", "group_by"}
    return _line("finetune", FinetuneConfig, asked, images, taken, more, free("run"))


def audit(asked: Options | None, images: str, *more: str) -> str:
    """`tlkit audit` on images with the network of `asked`, so that it finds what that found."""
    return _line("audit", AuditConfig, asked, images, set(), more, free("audit"))


def free(name: str) -> str:
    """The name where nothing is of it yet, else the first of `name-2`, `name-3` that is free."""
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
        taken = taken | {"batch_size"}  # of inference in one command, of training in the other
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
