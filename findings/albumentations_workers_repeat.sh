#!/usr/bin/env bash
# What: with PyTorch's DataLoader and two workers Albumentations 2.0.8 draws the same augmentations in both, and again the same in
#   every epoch: of 96 augmented pictures of four epochs 12 are different. With eight workers of a usual loader each image gets,
#   in epoch after epoch, the augmentation that belongs to its place in the worker.
# Why it surprises: the seeding of NumPy's old global state, the known trap, was given up for generators of its own; without a
#   seed, too, each Compose draws once when it is made, and every worker is born with that state. Without workers all is right.
# Who is hurt: whoever trains with it: the augmentation is one fixed choice for each place, so that the network overfits as with a
#   data set a fraction of the size, and no two runs show it. What pip installs is 2.0.8, the last under its licence; the repair
#   (AlbumentationsX#272) is in its successor of another name and licence.
# Instead: a worker_init_fn that calls set_random_seed(torch.initial_seed() % 2**32) on the Compose (checked below).
# Source: https://albumentations.ai/docs/4-advanced-guides/reproducibility; AlbumentationsX#266 is the report.
# Guessed beforehand: yes, of the workers; that the epochs repeat was guessed too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 albumentations==2.0.8 numpy==2.4.6
NO_ALBUMENTATIONS_UPDATE=1 venv/bin/python -W ignore - <<'PY'
import albumentations as A
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

print("Albumentations", A.__version__, "PyTorch", torch.__version__)
torch.set_num_threads(1)


class Bars(Dataset):
    """24 times one picture: whatever differs was drawn."""

    def __init__(self, seed):
        self.augment = A.Compose([A.Affine(rotate=(-45, 45), p=1), A.RandomBrightnessContrast(p=1)], seed=seed)

    def __len__(self):
        return 24

    def __getitem__(self, place):
        picture = np.zeros((16, 16, 3), "uint8")
        picture[3:6, 4:12] = 100
        return self.augment(image=picture)["image"]


def reseeded(_):
    get_worker_info().dataset.augment.set_random_seed(torch.initial_seed() % 2**32)


def different(seed, workers, **options):
    loader = DataLoader(Bars(seed), batch_size=4, shuffle=True, num_workers=workers, **options)
    epochs = [torch.cat(list(loader)).numpy().reshape(24, -1) for _ in range(4)]
    return len(np.unique(epochs[0], axis=0)), len(np.unique(np.concatenate(epochs), axis=0))


for seed in (None, 7):
    for name, workers, options, expected in (
        ("no workers", 0, {}, (24, 96)),
        ("2 workers", 2, {}, (12, 12)),
        ("2 workers that persist", 2, {"persistent_workers": True}, (12, 48)),
        ("2 workers, seeded anew", 2, {"worker_init_fn": reseeded}, (24, 96)),
    ):
        found = different(seed, workers, **options)
        print(f"  seed={seed}, {name}: {found[0]} of 24 pictures different in an epoch, {found[1]} of 96 in four")
        assert found == expected, "other numbers of different pictures"
PY
