import numpy as np
from scipy.interpolate import BSpline

from tlkit.explanation.pictures import Axis, pixel_centres, tiles


def test_centres_and_weights_by_hand():
    axis = Axis(side=12, count=3)
    assert axis.centres.tolist() == [2, 6, 10]
    at = axis.weights(np.array([6.0, 4.0, 2.0, 0.0, 12.0]))
    expected = [[1 / 8, 3 / 4, 1 / 8], [1 / 2, 1 / 2, 0], [7 / 8, 1 / 8, 0], [7 / 8, 1 / 8, 0], [0, 1 / 8, 7 / 8]]
    np.testing.assert_allclose(at, expected, atol=1e-6)


def test_the_splines_are_those_of_scipy():
    axis, place = Axis(side=90, count=9), np.linspace(20, 70, 31)
    spline = BSpline.basis_element([-1.5, -0.5, 0.5, 1.5], extrapolate=False)
    expected = np.nan_to_num(spline(place[:, None] / 10 - 0.5 - np.arange(9)))
    np.testing.assert_allclose(axis.weights(place), expected, atol=1e-6)


def test_sampling_neither_overshoots_nor_loses_anything():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    fine = tiles((30, 20), (3, 5)).sample(maps, pixel_centres(30), pixel_centres(20))
    assert fine.shape == (2, 30, 20)
    assert fine.min() >= maps.min() and fine.max() <= maps.max()
    flat = tiles((30, 20), (1, 1)).sample(np.ones((1, 1)), pixel_centres(30), pixel_centres(20))
    np.testing.assert_allclose(flat, 1, atol=1e-6)
