"""`tlkit weights`: list pretrained weights and fetch, import or export them, with and without a network.

tlkit weights list
tlkit weights fetch resnet50 mobilenetv2:alpha=0.35,size=160
tlkit weights export usb-stick && tlkit weights import usb-stick
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlkit.backbones.weight_files import MIRROR, WeightFile, at_hand, every_file, folders, mirror, read_spec
from tlkit.backbones.weight_transfer import export_files, fetch, header_problem, import_files, wrong_with
from tlkit.base.errors import TlkitError
from tlkit.base.machine import bytes_text
from tlkit.base.story import Phase, Silence, Story
from tlkit.options.catalog import BACKBONES, HUB, backbone_row
from tlkit.options.commands import WeightsConfig


def run(config: WeightsConfig, story: Story | None = None) -> dict[str, Any]:
    """Carry out `action`.

    Returns:
        `action`, `folder` (where weights are kept), `files` (one row per file, always with `name` and `backbone`),
        `text`; for an export `out`.

    Raises:
        TlkitError: for an unknown backbone, a damaged or wrong file (for `list` only with `verify`), no network, or a
            folder that is not writable.
    """
    act = {"list": _list, "fetch": _fetch, "import": _import, "export": _export}[config.action]
    return {"action": config.action, "folder": str(folders()[0]), **act(config, story or Silence())}


def _list(config: WeightsConfig, story: Story) -> dict[str, Any]:
    """List every file (in the text only the usual and the local ones), or all files of the named backbones."""
    names = config.names
    wanted = {backbone_row(name).name for name in names}
    files = [file for file in every_file() if not names or file.row.name in wanted]
    rows = [_facts(file, verify=config.verify) for file in story.track(files, "weights looked at", len(files))]
    damaged = [row for row in rows if row["problem"]]
    if config.verify and damaged:
        named = "; ".join(f"{row['file']}: {row['problem']}" for row in damaged)
        raise TlkitError(
            f"{len(damaged)} {'file' if len(damaged) == 1 else 'files'} of weights cannot be used: {named}.",
            f"delete and fetch again: tlkit weights fetch {' '.join(row['backbone'] for row in damaged)}",
        )
    shown = [row for row in rows if names or row["backbone"] in BACKBONES or row["weights"] != "absent"]
    lines = [f"{'backbone':<36}{'size':>12}  {'weights':<14} {'licence':<13} checksum"]
    if "nano" in wanted or not names:
        lines.append(f"{'nano':<36}{'':>12}  {'inside':<14} {BACKBONES['nano'].licence:<13} comes with tlkit")
    lines += [_line(row) for row in shown]
    lines += [f"{row['file']}: {row['problem']}" for row in rows if row["problem"]]
    lines.append(f"\nlooked for in {' and '.join(map(str, folders()))} (KERAS_HOME)")
    if len(shown) < len(rows):
        lines.append("more variants: `tlkit weights list mobilenetv2`; to get one: `tlkit weights fetch NAME`")
    if mirror():
        lines.append(f"fetched from {mirror()} ({MIRROR})")
    return {"files": rows, "text": "\n".join(lines)}


def _facts(file: WeightFile, *, verify: bool) -> dict[str, Any]:
    found = at_hand(file.name)
    sound = "at hand" if not verify else "verified" if file.known_sums else "not verifiable"
    problem = "" if found is None else wrong_with(file, found) if verify else header_problem(found)
    return {
        "name": file.name,
        "backbone": file.spec,
        "weights": "absent" if found is None else "damaged" if problem else sound,
        "file": str(found) if found else "",
        "bytes": found.stat().st_size if found else None,
        "about_bytes": file.bytes,
        "problem": problem,
        **{kind: file.sums.get(kind) for kind in ("md5", "sha256")},
        "licence": file.row.licence,
        "url": file.url,
    }


def _line(row: dict[str, Any]) -> str:
    size = bytes_text(row["bytes"]) if row["bytes"] is not None else "~" + bytes_text(row["about_bytes"])
    total = next((f"{kind} {row[kind]}" for kind in ("md5", "sha256") if row[kind]), "none stated by Keras")
    return f"{row['backbone']:<36}{size:>12}  {row['weights']:<14} {row['licence']:<13} {total}"


def _fetch(config: WeightsConfig, story: Story) -> dict[str, Any]:
    """Fetch the named weights; files already on this machine are checked."""
    presets = [name for name in config.names if name.startswith(HUB)]
    rows, lines = [], []
    wanted = _resolved([name for name in config.names if name not in presets])
    story.expect(*(Phase(f"{file.name}, bytes", file.bytes / 5e6) for _, file in wanted if file is not None))
    for name, file in wanted:
        if file is None:
            lines.append(f"{name}: its weights come with tlkit")
            continue
        before = at_hand(file.name)
        path = fetch(file, story)
        rows.append({"name": file.name, "backbone": file.spec, "file": str(path), "downloaded": before is None})
        lines.append(f"{file.spec}: {path}" + (" (was there already)" if before else ""))
    for name in presets:
        from tlkit.backbones.hub import find_preset  # loads Keras and KerasHub

        folder = find_preset(name, story)
        rows.append({"name": folder.name, "backbone": name, "file": str(folder), "downloaded": None})
        lines.append(f"{name}: {folder}")
    return {"files": rows, "text": "\n".join(lines)}


def _import(config: WeightsConfig, story: Story) -> dict[str, Any]:
    """Copy the given files to where Keras looks for them."""
    rows = import_files([Path(name).expanduser() for name in config.what or ()], story)
    lines = [f"{row['backbone']}: {folders()[0] / row['name']} ({row['done']})" for row in rows]
    return {"files": rows, "text": "\n".join(lines)}


def _export(config: WeightsConfig, story: Story) -> dict[str, Any]:
    """Copy all weights on this machine, or the named ones, into a folder for another machine."""
    folder, *names = config.names
    named = [file for _, file in _resolved(names) if file is not None]
    chosen = [(file, found) for file in named or every_file() if (found := at_hand(file.name)) is not None]
    absent = [file.spec for file in named if at_hand(file.name) is None]
    if absent or not chosen:
        whose = f"of {', '.join(absent)}" if absent else "of any backbone but nano, which needs none,"
        raise TlkitError(
            f"weights {whose} are not in {' or '.join(map(str, folders()))}: there is nothing to export.",
            f"`tlkit weights fetch {' '.join(absent) or 'NAME'}` fetches them.",
        )
    rows = export_files(chosen, Path(folder).expanduser(), story)
    total = bytes_text(sum(row["bytes"] for row in rows))
    text = (
        f"{folder}: {len(rows)} files, {total}; on the other machine: tlkit weights import {Path(folder).name or 'DIR'}"
    )
    return {"files": rows, "out": folder, "text": text}


def _resolved(names: Sequence[str]) -> list[tuple[str, WeightFile | None]]:
    """Each name with its file, all resolved before anything is done; None for nano."""
    return [(name, read_spec(name)) for name in names]
