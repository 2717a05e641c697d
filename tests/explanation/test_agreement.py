import numpy as np

from tlkit.explanation.heat_maps import EvidenceMap, agreement, in_words
from tlkit.explanation.pictures import tiles

LATTICE = tiles((40, 40), (4, 4))


def test_the_same_as_numpy_on_what_speaks_for_the_class_and_0_for_flat_maps():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 3, 4, 4)).astype(np.float32)
    other[1] = np.where(one[1] > 0, 5 * one[1], -random.random((4, 4)))  # what is below 0 does not count
    other[2] = 0
    found = agreement(EvidenceMap(one, LATTICE), EvidenceMap(other, LATTICE))
    centres = LATTICE.rows.centres, LATTICE.columns.centres
    smooth = LATTICE.sample(one.clip(0), *centres).reshape(3, -1)
    expected = [np.corrcoef(smooth[i], other[i].ravel().clip(0))[0, 1] for i in (0, 1)]
    np.testing.assert_allclose(found, [*expected, 0], atol=1e-6)
    assert found[1] > 0.9


def test_maps_of_different_lattices_are_compared_place_by_place():
    fine = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    coarse = fine.reshape(1, 4, 2, 4, 2).mean(axis=(2, 4))
    assert agreement(EvidenceMap(fine, tiles((40, 40), (8, 8))), EvidenceMap(coarse, LATTICE)) > 0.99


def test_in_words():
    assert [in_words(value).partition(" (")[0] for value in (0.8, 0.5, 0.0)] == [
        "methods agree",
        "methods agree in part",
        "methods disagree",
    ]
