"""Faults planted in copies of image folders, and how many of them `tlkit audit` finds.

    python benchmarks/audit.py hymenoptera flowers --backbone mobilenetv2:alpha=0.35 --weights FILE
    python benchmarks/audit.py sign-digits faces --as-is

Planted together, each in 5 % of the images unless said otherwise: copies byte for byte in another split; near
copies in another split (saved again, 90 % of the size, a random 95 % crop of each side, 15 % brighter or darker);
labels flipped to a random other class; 2 % of the files cut short, zeroed, emptied or replaced by text. And alone,
in a second copy: the first class saved again at JPEG quality 60.
"""

import argparse
import csv
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from measure import machine
from PIL import Image, ImageEnhance, ImageOps

import tlkit
from tlkit.base.story import Silence
from tlkit.pixels.sniff import IMAGE_SUFFIXES, suffix

SPLITS = ("train", "val", "test")


@dataclass
class Planted:
    """What was done to which file; paths as the audit names them."""

    exact: dict[str, str] = field(default_factory=dict)  # copy -> original
    near: dict[str, tuple[str, str]] = field(default_factory=dict)  # copy -> original, change
    flipped: dict[str, str] = field(default_factory=dict)  # path -> class it came from
    corrupt: set[str] = field(default_factory=set)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """The image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cropped(image: Image.Image, dice: random.Random) -> Image.Image:
    """A random part of 95 % of each side."""
    width, height = round(image.width * 0.95), round(image.height * 0.95)
    left, top = dice.randint(0, image.width - width), dice.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


CHANGES: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "saved again": lambda image, _: jpeg(image, 70),
    "resized": lambda image, _: jpeg(image.resize((round(image.width * 0.9), round(image.height * 0.9)))),
    "cropped": lambda image, dice: jpeg(cropped(image, dice)),
    "brighter": lambda image, _: jpeg(ImageEnhance.Brightness(image).enhance(1.15)),
    "darker": lambda image, _: jpeg(ImageEnhance.Brightness(image).enhance(0.85)),
}
DAMAGE: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: content[: len(content) // 2],
    lambda content: bytes(len(content)),
    lambda content: b"",
    lambda content: b"<html><body>404</body></html>",
)


def with_splits(source: Path, root: Path) -> list[str]:
    """Copy a folder; one without splits gets train and val, 80 to 20. Returns the paths below `root`."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and suffix(path.name) in IMAGE_SUFFIXES)
    split = {path.name for path in source.iterdir()} & set(SPLITS)
    paths = []
    for number, file in enumerate(files):
        place = file.relative_to(source)
        place = place if split else Path("val" if number % 5 == 4 else "train", place)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, root / place)
        paths.append(place.as_posix())
    return paths


def plant(root: Path, paths: list[str], seed: int) -> Planted:
    """Put the faults into a copy; no image has two of them, and no original of a copy has one."""
    dice, found = random.Random(seed), Planted()
    readable = [path for path in paths if not path.endswith(".gif")]
    dice.shuffle(readable)
    five, two = round(0.05 * len(paths)), round(0.02 * len(paths))
    classes = sorted({path.split("/")[1] for path in paths})
    parts = {}
    for name, count in (("exact", five), ("near", five), ("flipped", five), ("corrupt", two)):
        parts[name], readable = readable[:count], readable[count:]
    for path in parts["exact"]:
        copy = _elsewhere(path, "exact")
        shutil.copyfile(root / path, root / copy)
        found.exact[copy] = path
    for number, path in enumerate(parts["near"]):
        change = list(CHANGES)[number % len(CHANGES)]
        image = ImageOps.exif_transpose(Image.open(root / path)).convert("RGB")
        copy = _elsewhere(path, "near")
        (root / copy).write_bytes(CHANGES[change](image, dice))
        found.near[copy] = path, change
    for path in parts["flipped"]:
        split, own, name = path.split("/", 2)
        moved = f"{split}/{dice.choice([other for other in classes if other != own])}/flipped-{name}"
        (root / path).rename(root / moved)
        found.flipped[moved] = own
    for number, path in enumerate(parts["corrupt"]):
        (root / path).write_bytes(DAMAGE[number % len(DAMAGE)]((root / path).read_bytes()))
        found.corrupt.add(path)
    return found


def _elsewhere(path: str, mark: str) -> str:
    """A new name in the other split."""
    split, own, name = path.split("/", 2)
    return f"{'val' if split == 'train' else 'train'}/{own}/{mark}-{Path(name).stem}.jpg"


def shortcut(root: Path, paths: list[str]) -> str:
    """Save the first class again at quality 60; returns its name."""
    own = min(path.split("/")[1] for path in paths)
    for path in paths:
        if path.split("/")[1] == own and suffix(path) in ("jpg", "jpeg"):
            with Image.open(root / path) as image:
                content = jpeg(ImageOps.exif_transpose(image).convert("RGB"), 60)
            (root / path).write_bytes(content)
    return own


def audited(root: Path, out: Path, options: Mapping[str, str]) -> tuple[dict, dict, list[dict[str, str]]]:
    """What the command returned, audit.json and the rows of images.csv."""
    result = tlkit.audit(root, out=out, overwrite=True, story=Silence(), **options)
    with (out / "images.csv").open(encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    return result, json.loads((out / "audit.json").read_text(encoding="utf-8", errors="surrogateescape")), rows


def ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f} ({part}/{whole})" if whole else "none"


def planted_faults(source: Path, options: Mapping[str, str], seed: int) -> None:
    """Precision and recall of each kind of fault."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "images", Path(folder) / "audit"
        paths = with_splits(source, root)
        _, clean, clean_rows = audited(root, out, options)
        natural = {row["path"]: row["picture"] for row in clean_rows}
        planted = plant(root, paths, seed)
        result, audit, rows = audited(root, out, options)
        print(f"\n**{source.name}** ({len(paths)} images, {options['backbone']}, seed {seed})\n")
        print("| fault | precision | recall |\n|---|---|---|")
        print(f"| exact copies across splits | {' | '.join(_exact(planted, audit, root))} |")
        print(f"| near copies across splits | {' | '.join(_near(planted, rows, natural))} |")
        print(f"| unreadable files | {' | '.join(_corrupt(planted, audit))} |")
        ranking = sorted((row for row in rows if row["label_quality"]), key=lambda row: float(row["label_quality"]))
        first = {row["path"] for row in ranking[: round(0.1 * len(ranking))]}
        print(
            f"| flipped labels, first 10 % of the ranking | | {ratio(len(first & set(planted.flipped)), len(planted.flipped))} |"
        )
        listed = [group for finding in audit["findings"] if finding["check"] == "labels" for group in finding["groups"]]
        right = [group for group in listed if group["paths"][0] in planted.flipped]
        print(
            f"| flipped labels, those called likely wrong | {ratio(len(right), len(listed))} | {ratio(len(right), len(planted.flipped))} |"
        )
        suggested = sum(group["suggested"] == planted.flipped[group["paths"][0]] for group in right)
        print(f"\nOf the {len(right)} flipped labels that are called wrong, {suggested} get the right class suggested.")
        print(f"Pictures that occur twice without any planting: {len(natural) - len(set(natural.values()))}.")
        print(f"Extraction {result['extraction_seconds']} s (partly from the store), audit {result['seconds']} s.")
        shutil.rmtree(root)
        own = shortcut(root, with_splits(source, root))
        _, cheated, _ = audited(root, out, options)
        for name, found in (("without", clean), ("with", cheated)):
            serious = [one for one in found["findings"] if one["check"] == "shortcuts" and one["severity"] == "serious"]
            told = "; ".join(f"{one['facts']['columns']}, gives away {one['facts']['given_away']}" for one in serious)
            print(f"Shortcut ({own} at JPEG quality 60), {name} it: {told or 'none found'}.")


def _exact(planted: Planted, audit: Mapping, root: Path) -> tuple[str, str]:
    groups = [
        group["paths"]
        for finding in audit["findings"]
        if finding["facts"].get("kind") == "splits"
        for group in finding["groups"]
        if group["caption"] == "byte for byte"
    ]
    true = sum(len({(root / path).read_bytes() for path in group}) < len(group) for group in groups)
    found = sum(any({copy, original} <= set(group) for group in groups) for copy, original in planted.exact.items())
    return ratio(true, len(groups)), ratio(found, len(planted.exact))


def _near(planted: Planted, rows: list[dict[str, str]], natural: Mapping[str, str]) -> tuple[str, str]:
    """Recall: a copy shares the number of its original. Precision: pairs of one number, one of them a copy, have one origin."""
    origin = {row["path"]: row["path"] for row in rows}
    origin |= {copy: original for copy, (original, _) in planted.near.items()} | planted.exact
    pictures: dict[str, list[str]] = {}
    for row in rows:
        pictures.setdefault(row["picture"], []).append(row["path"])
    pairs = [
        (copy, other)
        for group in pictures.values()
        for copy in group
        if copy in planted.near
        for other in group
        if other != copy
    ]
    same = sum(natural.get(origin[one]) == natural.get(origin[two], origin[two]) for one, two in pairs)
    number = {row["path"]: row["picture"] for row in rows}
    missed = [change for copy, (original, change) in planted.near.items() if number[copy] != number[original]]
    found = ratio(len(planted.near) - len(missed), len(planted.near))
    return ratio(same, len(pairs)), found + (f"; missed: {', '.join(sorted(missed))}" if missed else "")


def _corrupt(planted: Planted, audit: Mapping) -> tuple[str, str]:
    found = {
        group["paths"][0]
        for finding in audit["findings"]
        if finding["check"] == "files" and "unreadable" in finding["facts"]
        for group in finding["groups"]
    }
    hits = len(found & planted.corrupt)
    return ratio(hits, len(found)), ratio(hits, len(planted.corrupt))


def as_it_is(source: Path, options: Mapping[str, str]) -> None:
    """The findings on an untouched folder, and the time of the audit over that of extraction."""
    with tempfile.TemporaryDirectory() as folder:
        result, audit, rows = audited(source, Path(folder) / "audit", options)
    print(f"\n**{source.name}** ({result['images']} images, {options['backbone']})\n")
    for finding in audit["findings"]:
        first = finding["groups"][0]["paths"][0] if finding["groups"] else ""
        print(f"- {finding['severity']}: {finding['sentence']}{f' First: {first}.' if first else ''}")
    oddest = sorted(rows, key=lambda row: -float(row["unfamiliarity"]))[:3]
    print(f"\nOddest: {', '.join(row['path'] for row in oddest)}.")
    print(f"Extraction {result['extraction_seconds']} s, audit {result['seconds']} s: {audit['seconds']}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--as-is", action="store_true", help="plant nothing; print what is found")
    given = parser.parse_args()
    options = {"backbone": given.backbone, "weights": given.weights}
    for folder in given.folders:
        as_it_is(folder, options) if given.as_is else planted_faults(folder, options, given.seed)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
