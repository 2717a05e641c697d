"""Write down what the commands write: `python -m tests.characterisation.record [--archive] [NAME ...]`.

Only for a change of results that is meant, and said in CHANGELOG.md. `--archive` also writes the archive of images,
run folder, artifacts and feature store; that of 93062aa must stay as long as what it wrote is to be read, so an archive
is made only from a checkout of a release that is to be held on to.
"""

import argparse
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import tlkit
from tests.characterisation.observations import OBSERVATIONS, cache, observe
from tests.characterisation.workshop import ARCHIVE, HEAD, PLACEHOLDER, RECORDED, SAMPLES, TEXTS, Workshop, unpack


def tiny_backbone(path: Path) -> None:
    """A backbone of 20 kB, for a run folder and artifacts that are small: 32 pixels, three blocks, random weights."""
    import keras

    keras.utils.set_random_seed(1)
    tensor = images = keras.Input((32, 32, 3))
    tensor = keras.layers.Rescaling(1 / 255)(tensor)
    for number, width in enumerate((8, 12, 16), start=1):
        tensor = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=f"block{number}_conv")(tensor)
        tensor = keras.layers.BatchNormalization(name=f"block{number}_bn")(tensor)
        tensor = keras.layers.ReLU(name=f"block{number}_relu")(tensor)
    keras.Model(images, tensor).save(path)


def fill_store() -> None:
    """Many kinds of rows: images, views, mirror images, two poolings and precisions, two sizes, grids, evidence."""
    tlkit.features("shapes", backbone="nano", out="old/shapes.csv")
    tlkit.features("shapes", backbone="nano", pool="max", stored_as="float16", out="scratch/max.npz")
    tlkit.finetune("shapes", **HEAD, out="scratch/head")
    tlkit.audit("shapes", out="scratch/audit")
    tlkit.rank("shapes", backbones=("nano:size=64",), out="scratch/rank")


def write_archive(folder: Path) -> None:
    """Draw the images, run what is to be held on to, and pack it without this machine's paths."""
    workshop = Workshop(folder)
    for name, options in SAMPLES.items():
        workshop.cold("sample", options[0], f"images/{name}", *options[1:])
        shutil.move(f"images/{name}", name)
    Path("old").mkdir()
    os.environ["TLKIT_CACHE"] = str(folder / "old/store")
    fill_store()
    tiny_backbone(folder / "old/tiny.keras")
    chosen = {"stages": ("head", "all"), "views": 2, "epochs": (3,), "flip": False, "val": 0.2, "test": 0.2}
    tlkit.finetune("digits", backbone="old/tiny.keras", **chosen, validate="split", out="old/run")
    tlkit.evaluate(str(shutil.copytree("old/run", "scratch/run")))  # its predictions go into the store
    tlkit.export("old/run", format=("keras", "savedmodel", "litert"), out="old/exported")
    for leftover in ("old/store/networks", "old/run/logs", "old/run/checkpoints"):
        shutil.rmtree(leftover, ignore_errors=True)
    Path("old/run/report.html").unlink()
    pack(folder, [*SAMPLES, "old"])


def pack(folder: Path, names: list[str]) -> None:
    """The same files make the same archive: sorted, without times and owners."""
    with (
        ARCHIVE.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(path for name in names for path in (folder / name).rglob("*") if path.is_file()):
            content = path.read_bytes()
            if path.suffix in TEXTS:
                content = content.replace(str(folder).encode(), PLACEHOLDER.encode())
            if str(folder).encode() in content:
                raise SystemExit(f"{path} names a folder of this machine.")
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def rounded(value: Any) -> Any:
    """Floats to nine significant digits: more than any tolerance asks for."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def write(name: str, seen: Any) -> None:
    """One observation, as one line of JSON: it is made to be compared, and is small so."""
    text = json.dumps(rounded(seen), ensure_ascii=False, separators=(",", ":"))
    (RECORDED / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {len(text):,} bytes")


def main() -> None:
    """Record in a folder of its own, with a store of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *OBSERVATIONS, "cache"], help="all unless given")
    parser.add_argument("--archive", action="store_true", help="write the archive first")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for name in ("old", "new"):
            Path(made, name).mkdir()
        if chosen.archive:
            os.chdir(Path(made, "old"))
            write_archive(Path.cwd())
        os.chdir(Path(made, "new"))
        unpack(Path.cwd())
        workshop = Workshop(Path.cwd())
        os.environ["TLKIT_CACHE"] = str(Path.cwd() / "old/store")
        if "cache" in chosen.names or not chosen.names:
            write("cache", cache(workshop))
        os.environ["TLKIT_CACHE"] = str(Path.cwd() / "store")
        for name in OBSERVATIONS:
            if name in chosen.names or not chosen.names:
                write(name, observe(name, workshop))


if __name__ == "__main__":
    main()
