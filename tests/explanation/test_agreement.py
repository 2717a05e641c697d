import numpy as np
from scipy.stats import spearmanr

from tlkit.explanation.agreement import agreement, in_words
from tlkit.explanation.evidence import Evidence
from tlkit.explanation.lattice import tiles

LATTICE = tiles((40, 40), (4, 4))


def test_the_same_as_scipy_and_no_value_for_flat_maps():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 3, 4, 4)).astype(np.float32)
    other[1] = np.exp(one[1])  # the same order
    other[2] = 0
    found = agreement(Evidence(one, LATTICE), Evidence(other, LATTICE))
    np.testing.assert_allclose(found, [spearmanr(one[0].ravel(), other[0].ravel())[0], 1, 0], atol=1e-9)


def test_maps_of_different_lattices_are_compared_place_by_place():
    fine = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    coarse = fine.reshape(1, 4, 2, 4, 2).mean(axis=(2, 4))
    assert agreement(Evidence(fine, tiles((40, 40), (8, 8))), Evidence(coarse, LATTICE)) == 1


def test_in_words():
    assert [in_words(value).partition(" (")[0] for value in (0.8, 0.3, 0.0)] == [
        "methods agree",
        "methods agree in part",
        "methods disagree",
    ]
