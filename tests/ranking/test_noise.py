import numpy as np
import pytest
from scipy.stats import t

from tlkit.ranking.choose import corrected, corrected_share


def test_the_formula_of_nadeau_and_bengio():
    values = np.array([0.8, 0.7, 0.9, 0.75, 0.85])
    found = corrected(values, folds=5)
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    assert (found.value, found.error) == pytest.approx((0.8, error))
    assert (found.low, found.high) == pytest.approx((0.8 - t.ppf(0.975, 4) * error, 0.8 + t.ppf(0.975, 4) * error))


def test_a_share_stays_between_0_and_1_and_is_never_certain():
    found = corrected_share(np.array([1.0, 1.0, 0.9, 1.0]), folds=4, images=40)
    assert found.low > 0 and found.high == 1.0
    perfect = corrected_share(np.ones(4), folds=4, images=40)
    assert perfect.high == 1.0 and 0.9 < perfect.low < 0.92  # Wilson: 40 of 40
    assert corrected_share(np.ones(4), folds=4, images=4).low < 0.52


def test_more_folds_that_disagree_say_more_but_never_all():
    once = np.array([0.7, 0.8, 0.75, 0.85, 0.9])
    often = corrected(np.tile(once, 50), folds=5)
    assert 0.25 * once.std() < often.error < corrected(once, folds=5).error
