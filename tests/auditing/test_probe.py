import numpy as np

from tests.auditing.evidences import clouds
from tlkit.auditing.evidence import fit_probe
from tlkit.data.folds import in_turn


def test_folds_keep_units_whole_and_deal_classes_evenly():
    labels = np.repeat([0, 1, 2], [50, 30, 7])
    units = np.arange(87)
    units[[3, 4, 60]] = 3
    fold = in_turn(labels, units, seed=1)
    assert fold[3] == fold[4] == fold[60]
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 3


def test_far_clouds_are_told_apart_out_of_fold_and_other_views_by_the_model_that_did_not_see_them():
    labels, features = clouds(30)
    probe = fit_probe(features, labels, np.arange(90))
    assert (probe.predicted == labels).mean() > 0.97
    np.testing.assert_allclose(probe.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probe.ask(features, np.arange(90)), probe.probabilities, atol=1e-5)


def test_labels_that_mean_nothing_are_not_learned_by_heart():
    _, features = clouds(60, classes=2, apart=0.0)
    labels = np.random.default_rng(0).integers(0, 2, 120)
    probe = fit_probe(features, labels, np.arange(120))
    assert 0.3 < (probe.predicted == labels).mean() < 0.7


def test_a_class_in_one_unit_alone_is_not_known_where_it_is_held_out():
    labels, features = clouds(20)
    units = np.arange(60)
    units[labels == 2] = 40
    probe = fit_probe(features, labels, units)
    assert (probe.probabilities[labels == 2][:, 2] < 1e-6).all()
    assert probe.judged.tolist() == (labels != 2).tolist()


def test_a_class_in_two_units_is_judged():
    labels, features = clouds(20)
    units = np.arange(60)
    units[40:50], units[50:] = 40, 50
    assert fit_probe(features, labels, units).judged.all()
