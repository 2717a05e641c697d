#!/usr/bin/env bash
# What: datasets' class_encode_column of labels that are numbers already gives them other numbers: they are sorted as text, so that 10 becomes
#   2, 2 becomes 4, and of twelve classes only 0 and 1 keep their number. Fewer than eleven classes are unchanged, negative labels
#   are turned round.
# Why it surprises: the column holds integers before and after, in the same range; train_test_split(stratify_by_column=...) asks
#   for a column of class labels, and this is the method named so. Tried on a set of ten classes it does nothing.
# Who is hurt: whoever stratifies and then evaluates a network trained on the numbers of before, or has a list of names: accuracy falls
#   from 1.00 to 0.14, with twelve classes as with a hundred; a network trained anew is right and its names are not.
# Instead: cast_column("label", ClassLabel(num_classes=12)), which keeps them and can be stratified by (checked below).
# Source: https://huggingface.co/docs/datasets/package_reference/main_classes (class_encode_column: "Casts the given column as ClassLabel
#   and updates the table"); flairNLP/fabricator#51 is a user who met it.
# Guessed beforehand: names are sorted as text; numbers were not thought of.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
export HF_HOME="$work/home" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'PY'
import datasets, numpy as np
from datasets import ClassLabel, Dataset

print("datasets", datasets.__version__)
random = np.random.default_rng(0)
for classes in (10, 12, 100):
    labels = random.integers(0, classes, 1000)
    plain = Dataset.from_dict({"label": labels.tolist()})
    encoded, cast = plain.class_encode_column("label"), plain.cast_column("label", ClassLabel(num_classes=classes))
    kept = {name: np.mean(np.array(table["label"][:]) == labels).item() for name, table in (("encoded", encoded), ("cast", cast))}
    moved = dict(sorted({int(old): int(new) for old, new in zip(labels, encoded["label"][:]) if old != new}.items())[:6])
    print(f"  {classes} classes: {kept['encoded']:.2f} of the labels are as before by class_encode_column, {kept['cast']:.2f} by cast_column; moved: {moved or 'none'}")
    assert kept["cast"] == 1 and len(cast.train_test_split(0.2, stratify_by_column="label", seed=0)["test"]) == 200
    assert kept["encoded"] == 1 if classes == 10 else kept["encoded"] < 0.3, "numbers keep their order now"
names = Dataset.from_dict({"label": [-3, -2, -1, 0, 1]}).class_encode_column("label").features["label"].names
print("  classes of -3 to 1:", names)
assert names == ["-1", "-2", "-3", "0", "1"]
try:
    plain.train_test_split(0.2, stratify_by_column="label")
except ValueError as error:
    print("  not encoded:", error)
else:
    raise SystemExit("plain numbers can be stratified by now")
PY
