"""A grid search over a pipeline of images, against one extraction and the fits by themselves.

    python benchmarks/sklearn_grid.py FOLDER --backbone mobilenetv2:alpha=0.35 --weights FILE

Each row is a process of its own with an empty store, in turn: `extraction` computes the features of every image once;
`fits` searches the same grid on a table of features that is in memory; `pipeline` searches it on paths, with
`tlkit.sklearn.ImageFeatures` in front. Imports of scikit-learn are counted in none of them, those of Keras where it is
loaded. The claim is pipeline / (extraction + fits), at most 1.1 for 10 settings and 5 folds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROWS = ("extraction", "fits", "pipeline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of images for each class")
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--settings", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(measured(options))
        return
    seconds: dict[str, list[float]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as table:
        for _ in range(options.repeats):
            for row in ROWS:
                with tempfile.TemporaryDirectory() as cache:
                    environment = os.environ | {"TLKIT_CACHE": cache, "TABLE": str(Path(table) / "features.npy")}
                    command = [sys.executable, __file__, *sys.argv[1:], "--row", row]
                    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                    seconds[row].append(float(done.stdout.splitlines()[-1]))
    whole = [a / (b + c) for a, b, c in zip(seconds["pipeline"], seconds["extraction"], seconds["fits"], strict=True)]
    from measure import machine

    print("| | seconds, each repeat |\n|---|---|")
    for row, times in seconds.items():
        print(f"| {row} | {', '.join(f'{each:.1f}' for each in times)} |")
    print(f"\npipeline / (extraction + fits): {median(whole):.3f} ({min(whole):.3f} to {max(whole):.3f}); " + machine())


def measured(options: argparse.Namespace) -> float:
    """Seconds of one row; the features go to `TABLE`, from where `fits` reads them."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tlkit.sklearn import ImageFeatures

    files = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    labels, paths = np.array([path.parent.name for path in files]), np.array([str(path) for path in files])
    features = ImageFeatures(options.backbone, weights=options.weights)
    steps = (StandardScaler(), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": np.logspace(-4, 1, options.settings)}
    started = time.perf_counter()
    if options.row == "extraction":
        np.save(os.environ["TABLE"], features.fit_transform(paths))
    elif options.row == "fits":
        GridSearchCV(make_pipeline(*steps), grid, cv=options.folds).fit(np.load(os.environ["TABLE"]), labels)
    else:
        GridSearchCV(make_pipeline(features, *steps), grid, cv=options.folds).fit(paths, labels)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
