#!/usr/bin/env bash
# What: load_dataset("imagefolder", data_dir=...) of a plain folder of class folders loads only a part of it, without a
#   warning, if any *path below it* has one of the words train, test, eval, val, valid, validation, dev, testing, training
#   set off by a dot, dash, underscore, space or digit. A class folder called "test-strip" makes that class the whole
#   dataset (and, being the only class, it loses the label column as well); one photograph called "test_3.png" among eight
#   makes a dataset of that one photograph.
# Why it surprises: the folder has no splits, and the documentation of "imagefolder" speaks of folders called train and
#   test at the top; a keyword found anywhere decides for all files, and files that lack one are in no split at all.
# Who is hurt: classes called "dev-board", "test-tube", "train_station"; photographs named by a device or a clerk
#   ("test_01.jpg", "eval 2.png"). Accuracy on what is left looks fine.
# Instead: count what was loaded; name the files: load_dataset("imagefolder", data_files={"train": "FOLDER/**"}).
# Source: https://huggingface.co/docs/datasets/image_load#imagefolder and /repository_structure (splits by "keywords").
# Guessed beforehand: the class goes to a split of its own and the others stay in train.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1
HF_HUB_OFFLINE=1 HF_HOME="$work/home" venv/bin/python - <<'PY'
import datasets
from pathlib import Path
from PIL import Image

datasets.disable_progress_bars()
print("datasets", datasets.__version__)


def loaded(name, *files):
    for file in files:
        path = Path(name, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (sum(file.encode()) % 256, 0, 0)).save(path)
    found = datasets.load_dataset("imagefolder", data_dir=name)
    shown = {split: (len(part), "label" in part.column_names) for split, part in found.items()}
    print(f"{name}: {len(files)} files on disk, loaded (images, has labels): {shown}")
    return shown


numbers = range(4)
plain = loaded("plain", *(f"{c}/{i}.png" for c in ("cup", "plate") for i in numbers))
by_class = loaded("kits", *(f"{c}/{i}.png" for c in ("positive", "negative", "test-strip") for i in numbers))
by_file = loaded("crockery", *(f"{c}/{i}.png" for c in ("cup", "plate") for i in numbers), "plate/test_4.png")
assert plain == {"train": (8, True)}
assert by_class == {"test": (4, False)}, "a class folder no longer becomes a split"
assert by_file == {"test": (1, False)}, "a file no longer becomes a split"
named = datasets.load_dataset("imagefolder", data_files={"train": "kits/**"})["train"]
print("with data_files:", len(named), named.features["label"].names)
assert len(named) == 12 and len(named.features["label"].names) == 3
PY
