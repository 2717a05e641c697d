"""Linear probe: how much of a data set can be read off frozen features with one linear layer.

Features are pooled over the grid and standardised; logistic regression, its strength chosen by cross-validation on the
training part only. The data are measured here and nowhere trained on.

    python -m training_nano.probe FOLDER... --backbone nano --backbone random --backbone imagenet
"""

import argparse
import csv
import warnings
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tlkit.backbones.applications import build_nano, load_nano_weights
from training_nano.teacher import build_teacher

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 3


def main() -> None:
    """Print one line per backbone and folder, and append them to a CSV file if one is named."""
    arguments = _parse_arguments()
    rows = []
    for name in arguments.backbone:
        scores = []
        for folder in arguments.folders:
            scores.append(probe_folder(folder, name, arguments.size, arguments.seeds))
            seeds = scores[-1]
            rows.append(
                [name, arguments.size or "native", folder.name, f"{np.mean(seeds):.4f}", f"{np.std(seeds):.4f}"]
            )
            print(*rows[-1], flush=True)
        rows.append([name, arguments.size or "native", "mean", f"{np.mean(scores):.4f}", ""])
        print(*rows[-1], flush=True)
    if arguments.out:
        with arguments.out.open("a", newline="") as file:
            csv.writer(file).writerows(rows)


def probe_folder(folder: Path, name: str, size: int | None, seeds: int) -> list[float]:
    """Accuracies 0..1, one per seed; a random backbone is drawn anew for each seed."""
    accuracies, features = [], None
    for seed in range(seeds):
        if features is None or name == "random":
            backbone = load_backbone(name, size, seed)
            paths, labels, is_train = list_images(folder)
            features = pooled_features(backbone, read_images(paths, backbone.input_shape[1:3]))
        accuracies.append(linear_probe(features, labels, is_train, seed))
    return accuracies


def load_backbone(name: str, size: int | None, seed: int = 0) -> keras.Model:
    """A backbone by name: `nano`, `random` (nano's architecture), `imagenet` (MobileNetV2 0.35), or an .npz file."""
    keras.utils.set_random_seed(seed)
    if name == "imagenet":
        return build_teacher(size or 224)
    model = build_nano((size, size)) if size else build_nano()
    if name != "random":
        load_nano_weights(model, **({} if name == "nano" else {"path": Path(name)}))
    return model


def list_images(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray | None]:
    """Paths, class names, and which images train, where the folder has its own `train` and `val`; None otherwise."""
    own_split = (folder / "train").is_dir()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    labels = np.array([path.parent.name for path in paths])
    is_train = np.array([path.relative_to(folder).parts[0] == "train" for path in paths]) if own_split else None
    return paths, labels, is_train


def read_images(paths: list[Path], image_size: tuple[int, int]) -> np.ndarray:
    """RGB `(N, H, W, 3)` uint8, both sides resized freely (bilinear, antialiased)."""
    height, width = image_size
    images = np.empty((len(paths), height, width, 3), "uint8")
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            image.draft("RGB", (2 * width, 2 * height))
            images[index] = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return images


def pooled_features(backbone: keras.Model, images: np.ndarray) -> np.ndarray:
    """Grid averaged over space: `(N, C)` float32."""
    return backbone.predict(images.astype("float32"), batch_size=32, verbose=0).mean((1, 2))


def linear_probe(features: np.ndarray, labels: np.ndarray, is_train: np.ndarray | None, seed: int) -> float:
    """Accuracy 0..1 on the held-out part: the folder's own, or a stratified fifth drawn with the seed."""
    if is_train is None:
        train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    else:
        train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    head = LogisticRegressionCV(
        Cs=STRENGTHS, cv=folds, max_iter=200, use_legacy_attributes=False, l1_ratios=(0,), scoring="accuracy"
    )
    model = make_pipeline(StandardScaler(), head)
    # One thread: for problems this small the threads of BLAS cost more than they bring.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features[train], labels[train])
    return float(model.score(features[test], labels[test]))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of images, one sub-folder per class")
    parser.add_argument("--backbone", action="append", required=True, help="nano, random, imagenet, or a .npz file")
    parser.add_argument("--size", type=int, help="side in pixels; each backbone's own by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a CSV file to append to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
