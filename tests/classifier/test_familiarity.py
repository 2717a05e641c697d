"""Unfamiliar images are distinguished from familiar ones within the promised false positive rate."""

import numpy as np
import pytest

from tlkit.classifier.familiarity import FEWEST, Familiarity, fit_familiarity, references, unit

NO = np.zeros((1, 1))  # logits that a reference of distances ignores


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
    assert (reference.unfamiliarity(new, NO) > 1).mean() < 0.03
    assert (reference.unfamiliarity(kind(rng, 200, centres[3]), NO) > 1).all()


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
    assert again.unfamiliarity(new, NO).tolist() == reference.unfamiliarity(new, NO).tolist()
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
    assert reference.unfamiliarity(np.empty((0, 300)), NO).shape == (0,)
    assert np.isnan(reference.unfamiliarity(np.full((1, 300), np.nan), NO)).all()


def test_references_are_spread_over_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [3000, 1500, 2])
    kept = references(labels, 300)
    assert np.bincount(labels[kept]).tolist() == [200, 100, 1]
    assert references(labels[:40], 300).tolist() == list(range(40))


# -- joined with the logits of classes ---------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """A head that separates three kinds, and a reference that includes its logits of validation images."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(1.0, size=(4, 300))
    known, held = (np.concatenate([kind(rng, 60, centre) for centre in centres[:3]]) for _ in range(2))
    kernel = (centres[:3] - centres[:3].mean(axis=0)).T / 10

    def said(features):
        return features @ kernel

    return rng, centres, said, known, held, fit_familiarity(known, held, said(held))


def test_the_score_is_virtual_logit_matching_by_hand(judged):
    rng, centres, said, known, held, reference = judged
    new = kind(rng, 7, centres[3])
    mean = unit(known).mean(axis=0)
    _, _, rows = np.linalg.svd(unit(known) - mean, full_matrices=False)
    rest = rows[45:]  # a quarter of 180 images
    outside = [np.linalg.norm((unit(each) - mean) @ rest.T, axis=1) for each in (held, new)]
    # directions without variance in training are outside as well
    beyond = [
        np.sqrt(((unit(each) - mean) ** 2).sum(axis=1) - (((unit(each) - mean) @ rows.T) ** 2).sum(axis=1))
        for each in (held, new)
    ]
    outside = [np.hypot(one, other) for one, other in zip(outside, beyond, strict=True)]
    logits = [values - values.mean(axis=1, keepdims=True) for values in (said(held), said(new))]
    weight = logits[0].max(axis=1).mean() / outside[0].mean()
    wanted = weight * outside[1] - np.log(np.exp(logits[1]).sum(axis=1))
    assert reference.weight == pytest.approx(weight, rel=1e-3)
    np.testing.assert_allclose(reference.score(new, said(new)), wanted, rtol=1e-2, atol=1e-2)


def test_joined_scores_tell_strangers_and_keep_false_alarms_rare(judged):
    rng, centres, said, _, _, reference = judged
    new, strange = np.concatenate([kind(rng, 400, centre) for centre in centres[:3]]), kind(rng, 200, centres[3])
    assert (reference.unfamiliarity(new, said(new)) > 1).mean() < 0.03
    assert (reference.unfamiliarity(strange, said(strange)) > 1).all()
    assert reference.unfamiliarity(new, said(new)).min() >= 0


def test_a_constant_added_to_all_logits_says_nothing(judged):
    rng, centres, said, known, held, reference = judged
    new = kind(rng, 9, centres[1])
    np.testing.assert_allclose(reference.score(new, said(new)), reference.score(new, said(new) + 7.5), atol=1e-9)
    again = fit_familiarity(known, held, said(held) - 3)
    assert again.limit == pytest.approx(reference.limit) and again.weight == pytest.approx(reference.weight)


def test_joined_references_are_small_and_survive_their_bytes(judged):
    rng, centres, said, _, _, reference = judged
    new, content = kind(rng, 9, centres[3]), reference.to_bytes()
    again = Familiarity.from_bytes(content)
    assert again.unfamiliarity(new, said(new)).tolist() == reference.unfamiliarity(new, said(new)).tolist()
    assert len(content) < 60_000 and again.places.shape == (0, 45)


def test_logits_that_say_nothing_and_too_few_images_are_measured_otherwise(judged):
    _, _, said, known, held, _ = judged
    assert fit_familiarity(known, held, np.zeros((180, 3))) is None
    assert fit_familiarity(known[::10], held, said(held)).weight == 0  # 18 images span too little
