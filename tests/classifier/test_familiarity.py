"""What is unlike the training images is told from what is like them, within the promised share of false alarms."""

import numpy as np
import pytest

from tlkit.classifier.familiarity import FEWEST, Familiarity, fit_familiarity, references, unit


def kind(rng, n, centre, width=300):
    """Features of images that belong together: near a centre, in a space with more dimensions than are kept."""
    return np.maximum(centre + rng.normal(scale=0.3, size=(n, width)), 0).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    centres = rng.gamma(1.0, size=(4, 300))
    known = np.concatenate([kind(rng, 60, centre) for centre in centres[:3]])
    held = np.concatenate([kind(rng, 60, centre) for centre in centres[:3]])
    return rng, centres, fit_familiarity(known, held), known


def test_strangers_are_told_and_false_alarms_are_rare(world):
    rng, centres, reference, _ = world
    new = np.concatenate([kind(rng, 400, centre) for centre in centres[:3]])
    assert (reference.unfamiliarity(new) > 1).mean() < 0.03
    assert (reference.unfamiliarity(kind(rng, 200, centres[3])) > 1).all()


def test_distances_are_those_of_the_full_space(world):
    rng, centres, reference, known = world
    new = kind(rng, 20, centres[0])
    full = np.sort(np.linalg.norm(unit(new)[:, None] - unit(known)[None], axis=2), axis=1)[:, 4]
    assert reference.distance(new) == pytest.approx(full, rel=0.05)


def test_it_survives_its_bytes_and_is_small(world):
    rng, centres, reference, _ = world
    content = reference.to_bytes()
    again = Familiarity.from_bytes(content)
    new = kind(rng, 10, centres[3])
    assert again.unfamiliarity(new).tolist() == reference.unfamiliarity(new).tolist()
    assert len(content) < 120_000 and again.validation == 180


def test_too_few_or_too_alike_is_no_reference():
    rng = np.random.default_rng(1)
    known = rng.random((50, 8))
    assert fit_familiarity(known, known[: FEWEST - 1]) is None
    assert fit_familiarity(np.ones((50, 8)), np.ones((50, 8))) is None
    known[3] = np.nan
    assert fit_familiarity(known, rng.random((30, 8))) is None


def test_nothing_gives_nothing_and_what_is_not_finite_is_not_known(world):
    reference = world[2]
    assert reference.unfamiliarity(np.empty((0, 300))).shape == (0,)
    assert np.isnan(reference.unfamiliarity(np.full((1, 300), np.nan))).all()


def test_references_are_spread_over_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [3000, 1500, 2])
    kept = references(labels, 300)
    assert np.bincount(labels[kept]).tolist() == [200, 100, 1]
    assert references(labels[:40], 300).tolist() == list(range(40))
