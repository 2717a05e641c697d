"""Do explanations point at the right place? Drawn scenes where it is known, every head, several methods.

    python benchmarks/explain.py --backbone nano --size 224
    python benchmarks/explain.py --backbone mobilenetv2:alpha=0.35 --weights FILE --size 224

One object on textured ground, or none; the head learns to tell them on frozen features. A figure is the
energy of the map inside the object over that of the same area at random, mean over unseen scenes that
the classifier gets right, and in brackets the part of them where it is 3 or more.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the scenes are the tests'

import keras
import numpy as np
from measure import in_turn, machine, ratio

from tests.explanation.drawn import CLASSES, energy, scenes
from tlkit.backbones import runtime
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import Classifier, compose
from tlkit.data.dataset import InputContract
from tlkit.explanation.heat_maps import EvidenceMap, Witness, agreement, overlays
from tlkit.explanation.pictures import pixel_centres
from tlkit.extraction.engine import build_engine
from tlkit.options import catalog
from tlkit.options.groups import HeadOptions


def gradcam_plus_plus(grids: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Chattopadhay et al. 2018, with the exponential of the score as theirs."""
    squares, cubes = gradient**2, gradient**3
    below = 2 * squares + grids.sum(axis=(1, 2), keepdims=True) * cubes
    share = np.where(np.abs(below) > 1e-20, squares / np.where(below == 0, 1, below), 0)
    return ((share * np.maximum(gradient, 0)).sum(axis=(1, 2), keepdims=True) * grids).sum(axis=-1)


def hirescam(grids: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Draelos & Carin 2020."""
    return (grids * gradient).sum(axis=-1)


def trained(backbone: Backbone, grids: np.ndarray, labels: np.ndarray, kind: str, pooling: str) -> Classifier:
    """A classifier whose head has learned the scenes."""
    height, width = backbone.image_size
    head = build_head(HeadOptions(head=kind, pooling=pooling, hidden=(64,)), backbone.grid_shape, len(CLASSES))
    classifier = compose(backbone, head, CLASSES, InputContract(height=height, width=width))
    part = Witness(classifier).head
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate, epochs = (5e-4, 60) if kind == "rnn" else (2e-3, 15)  # plain recurrence learns slowly
    part.compile(keras.optimizers.Adam(rate), loss, jit_compile=runtime.jit())
    part.fit(grids, labels, epochs=epochs, verbose=0)
    return classifier


def row(classifier: Classifier, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> list[str]:
    """Accuracy, energy ratio of every method, median agreement."""
    witness = Witness(classifier)
    grids = witness.grids(images)
    right = witness.logits(grids).argmax(axis=1) == labels
    gradient = witness.gradient(grids, labels)
    everywhere = pixel_centres(images.shape[1]), pixel_centres(images.shape[2])
    found = {
        "integrated": witness.integrated(grids, labels),
        "occlusion": witness.occlusion(images, labels),
        "gradcam": witness.gradcam(grids, labels),
        "gradcam++": EvidenceMap(gradcam_plus_plus(grids, gradient), witness.lattice),
        "hirescam": EvidenceMap(hirescam(grids, gradient), witness.lattice),
    }
    cells = [f"{right.mean():.2f}"]
    for evidence in found.values():
        ratios = energy(evidence.lattice.sample(evidence.heat, *everywhere), masks)[right]
        cells.append(f"{ratios.mean():.1f} ({(ratios >= 3).mean():.2f})")
    agreed = agreement(found["integrated"], found["occlusion"])
    strange = EvidenceMap(np.roll(found["occlusion"].values, 1, axis=0), found["occlusion"].lattice)
    others = agreement(found["integrated"], strange)
    return [*cells, f"{np.median(agreed[right]):.2f}", f"{others.mean():.2f} ± {others.std():.2f}"]


def speed(classifier: Classifier, images: np.ndarray) -> str:
    """Images a second, and how many forward passes an explanation costs."""
    witness, engine, codes = Witness(classifier), build_engine(classifier.model), np.zeros(len(images), int)
    rows = {
        "forward pass": lambda: engine.run(images),
        "integrated": lambda: witness.integrated(witness.grids(images), codes),
        "occlusion": lambda: witness.occlusion(images, codes),
    }
    for work in rows.values():
        work()
    seconds = in_turn(rows)
    costs = {name: ratio(seconds["forward pass"], times) for name, times in seconds.items() if name != "forward pass"}
    told = "; ".join(f"{name} {mid:.1f} ({low:.1f} to {high:.1f})" for name, (mid, low, high) in costs.items())
    (forty,) = in_turn({"overlays": lambda: overlays(classifier, images[:40], codes[:40])}).values()
    return f"in forward passes of as many images: {told}; overlays of {len(images[:40])} images, with tracing: {sorted(forty)[2]:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--train", type=int, default=600, help="scenes that the head learns from")
    parser.add_argument("--test", type=int, default=64, help="unseen scenes; three in four have an object")
    arguments = parser.parse_args()
    runtime.seed_everything(0)
    backbone = build_backbone(arguments.backbone, weights=arguments.weights, image_size=arguments.size)
    images, labels, _ = scenes(arguments.train, arguments.size, seed=1)
    engine = build_engine(backbone.model)
    grids = np.concatenate([engine.run(images[i : i + 32])[0] for i in range(0, len(images), 32)])
    unseen = scenes(arguments.test, arguments.size, seed=2)
    shown = unseen[2].any(axis=(1, 2))
    print("| head | accuracy | integrated | occlusion | Grad-CAM | Grad-CAM++ | HiResCAM | agreement | of strangers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in catalog.HEADS:
        for pooling in ("avg", "max") if kind == "linear" else ("avg",):
            classifier = trained(backbone, grids, labels, kind, pooling)
            cells = row(classifier, *(part[shown] for part in unseen))
            print(f"| {kind if pooling == 'avg' else f'{kind}, max'} | {' | '.join(cells)} |", flush=True)
            if (kind, pooling) == ("linear", "avg"):
                times = speed(classifier, unseen[0])
    print(f"\n{times}\n{backbone.name}, {arguments.size} pixels, grid {backbone.grid_shape}; {machine()}")


if __name__ == "__main__":
    main()
