import numpy as np
import pytest

from tlkit.tasks.multi import MULTI
from tlkit.tasks.single import SINGLE, softmax

VIEWS = np.random.default_rng(0).normal(0, 3, (4, 7, 3))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_probabilities_are_the_mean_of_those_of_the_views(temperature):
    found = softmax(SINGLE.mean_logits(VIEWS, temperature), temperature)
    by_hand = np.mean([softmax(view, temperature) for view in VIEWS], axis=0)
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_two_views_by_hand():
    """(3/4 and 1/4) and (1/4 and 3/4) make a half; averaged logits would as well, but not of 9/10 and 1/2."""
    views = np.log([[[3.0, 1.0], [9.0, 1.0]], [[1.0, 3.0], [1.0, 1.0]]])
    np.testing.assert_allclose(softmax(SINGLE.mean_logits(views)), [[0.5, 0.5], [0.7, 0.3]], atol=1e-6)


def test_questions_of_their_own_are_averaged_each_alone():
    found = 1 / (1 + np.exp(-MULTI.mean_logits(VIEWS, 2.0) / 2.0))
    np.testing.assert_allclose(found, np.mean(1 / (1 + np.exp(-VIEWS / 2.0)), axis=0), atol=1e-6)


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_certain_views_stay_finite(task):
    views = np.array([[[4000.0, -4000.0]], [[-4000.0, 4000.0]]])
    np.testing.assert_allclose(task.mean_logits(views)[0, 0], task.mean_logits(views)[0, 1])
    assert np.isfinite(task.mean_logits(views[:1])).all()
