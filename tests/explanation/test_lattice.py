import numpy as np

from tlkit.explanation.lattice import Axis, pixel_centres, tiles


def test_a_cell_rules_at_its_centre_and_beyond_the_outermost_centres():
    axis = Axis(side=12, count=3)
    assert axis.centres.tolist() == [2, 6, 10]
    at = axis.weights(np.array([2.0, 6.0, 0.0, 12.0, 3.0]))
    assert at.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0.75, 0.25, 0]]


def test_sampling_keeps_what_it_is_given():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    lattice = tiles((30, 20), (3, 5))
    np.testing.assert_allclose(lattice.sample(maps, lattice.rows.centres, lattice.columns.centres), maps, atol=1e-6)
    fine = lattice.sample(maps, pixel_centres(30), pixel_centres(20))
    assert fine.shape == (2, 30, 20)
    assert fine.min() >= maps.min() and fine.max() <= maps.max()
    same = tiles((4, 4), (4, 4)).sample(maps[:, :, :4].repeat(2, axis=1)[:, :4], pixel_centres(4), pixel_centres(4))
    np.testing.assert_allclose(same, maps[:, :, :4].repeat(2, axis=1)[:, :4], atol=1e-6)
