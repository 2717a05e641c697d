"""Maps against hand-computed cases, a known identity, and scenes where the right place is known."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.explanation.conftest import SIDE
from tests.explanation.drawn import energy
from tests.processes import QUICKLY_COMPILED
from tlkit.classifier.model import save
from tlkit.explanation.heat_maps import EvidenceMap, Witness, overlays, scores
from tlkit.explanation.pictures import pixel_centres, tiles
from tlkit.options import catalog


def test_log_odds():
    logits = np.log([[0.2, 0.5, 0.3], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(scores(logits, np.array([1, 2])), [0, 0], atol=1e-12)
    np.testing.assert_allclose(scores(logits, np.array([0, 0])), np.log([0.2 / 0.8, 0.25 / 0.75]))


def test_a_linear_head_by_hand(head_on, unseen):
    """Two classes, mean pooling: the log-odds are a weighted mean of the grid, and the maps are its terms."""
    classifier = head_on("linear", ("a", "b"))
    witness = Witness(classifier)
    grids = witness.grids(unseen[0])
    kernel = np.asarray(classifier.model.get_layer("logits").kernel)
    weights = (kernel[:, 1] - kernel[:, 0]) / grids[0, ..., 0].size
    ones = np.ones(len(grids), int)
    np.testing.assert_allclose(witness.gradcam(grids, ones).values, grids @ weights, atol=1e-5)
    away = grids - grids.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(witness.integrated(grids, ones).values, away @ weights, atol=1e-5)
    np.testing.assert_allclose(witness.integrated(grids, 1 - ones).values, -(away @ weights), atol=1e-5)


@pytest.mark.parametrize("kind", catalog.HEADS)
def test_the_places_sum_to_what_the_score_gains_on_the_way(kind, head_on, unseen):
    """Completeness (Sundararajan et al. 2017), for every head."""
    witness = Witness(head_on(kind))
    grids, labels = witness.grids(unseen[0][:4]), unseen[1][:4]
    start = np.broadcast_to(grids.mean(axis=(1, 2), keepdims=True), grids.shape)
    gained = scores(witness.logits(grids), labels) - scores(witness.logits(start), labels)
    found = witness.integrated(grids, labels).values.sum(axis=(1, 2))
    np.testing.assert_allclose(found, gained, atol=0.05 * np.abs(gained).max() + 1e-6)
    assert kind in ("linear", "mlp") or np.abs(gained).max() > 0.01  # a mean does not see where things are


@pytest.mark.parametrize("kind", ["linear", "conv", "attention", "transformer", "gru"])
def test_the_heat_is_on_the_object(kind, trained, unseen):
    """At least 3 times the energy of the same area at random, by a gradient and by occlusion."""
    images, labels, masks = unseen
    witness = Witness(trained(kind))
    grids = witness.grids(images)
    right = witness.logits(grids).argmax(axis=1) == labels
    assert right.mean() >= 0.8
    everywhere = pixel_centres(SIDE), pixel_centres(SIDE)
    for evidence in (witness.integrated(grids, labels), witness.occlusion(images, labels)):
        heat = evidence.lattice.sample(evidence.heat, *everywhere)
        assert energy(heat, masks)[right].mean() >= 3


def test_overlays_lie_pixel_on_pixel(head_on, unseen):
    classifier, (images, labels, _) = head_on("linear"), unseen
    heat = overlays(classifier, images[:5], labels[:5])
    assert heat.shape == (5, SIDE, SIDE) and heat.dtype == np.float32
    assert heat.min() >= 0 and 0.9 < heat.max() <= 1.00001
    assert overlays(classifier, images[:0], labels[:0]).shape == (0, SIDE, SIDE)


def test_nothing_for_a_class_is_no_heat():
    heat = EvidenceMap(np.array([[[-1.0, -2.0]], [[3.0, -1.0]]]), tiles((8, 8), (1, 2))).heat
    assert heat.tolist() == [[[0, 0]], [[1, 0]]]


OTHER_BACKEND = """
import sys
from pathlib import Path
import numpy as np
from tlkit.classifier.model import load
from tlkit.explanation.heat_maps import Witness
classifier, arrays = load(Path(sys.argv[1])), np.load(sys.argv[2])
np.save(sys.argv[3], Witness(classifier).integrated(arrays["grids"], arrays["labels"]).values)
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_says_the_same(backend, head_on, unseen, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    classifier = head_on("gru")
    witness = Witness(classifier)
    grids, labels = witness.grids(unseen[0][:3]), unseen[1][:3]
    save(classifier, tmp_path / "model.keras")
    np.savez(tmp_path / "arrays.npz", grids=grids, labels=labels)
    files = [str(tmp_path / name) for name in ("model.keras", "arrays.npz", "found.npy")]
    environment = os.environ | QUICKLY_COMPILED | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", OTHER_BACKEND, *files], env=environment, check=True)
    expected = witness.integrated(grids, labels).values
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-4 * np.abs(expected).max())


def test_a_number_stands_alone_and_its_evidence_is_its_own_gradient(tiny_backbone):
    """d number / d grid of a linear head on the mean is its kernel over the places, independent of the other number."""
    from tlkit.backbones.build import build_backbone
    from tlkit.classifier.heads.build import build_head
    from tlkit.classifier.model import compose
    from tlkit.data.dataset import InputContract
    from tlkit.options.groups import HeadOptions
    from tlkit.tasks.number import NUMBER

    numbers = np.array([[1.5, -2.0]])
    assert scores(numbers, np.array([1]), alone=True).tolist() == [-2.0]
    backbone = build_backbone(tiny_backbone)
    for names in (("one",), ("one", "two")):
        head = build_head(HeadOptions(), backbone.grid_shape, len(names), fewest=1)
        witness = Witness(compose(backbone, head, names, InputContract(height=32, width=32), NUMBER))
        grids = np.random.default_rng(0).normal(0, 1, (2, 4, 4, 16)).astype(np.float32)
        found = witness.gradient(grids, np.zeros(2, int))
        kernel = head.model.get_layer("logits").get_weights()[0][:, 0] / 16
        np.testing.assert_allclose(found, np.broadcast_to(kernel, found.shape), rtol=1e-4, atol=1e-7)
