import numpy as np
import pytest

from tlkit.training.examples import Examples, Mixing, mixed_targets

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (11, 6, 8, 3), dtype=np.uint8)
LABELS = np.arange(11) % 3
WEIGHTS = RANDOM.uniform(0.5, 2.0, 11).astype(np.float32)


def examples(how, parts=1, seed=4):
    read = []
    given = Examples(
        read=lambda positions, epoch: read.append(len(positions)) or IMAGES[positions],
        labels=LABELS,
        weights=WEIGHTS,
        classes=3,
        batch_size=4,
        seed=seed,
        parts=parts,
        mixing=Mixing(how, seed) if how else None,
    )
    return given, read


def epoch_of(given, epoch=0):
    """Inputs, labels and weights of the rows of an epoch."""
    return [
        np.concatenate([np.concatenate(part) for part in parts]) for parts in zip(*given.chunks(epoch), strict=True)
    ]


def test_mixup_by_hand():
    rows, others = np.array([[0.0, 100.0]]), np.array([[200.0, 0.0]])
    mixed, shares = Mixing("mixup", 0).mix(rows, others, np.array([[0.75, 0.1, 0.9]]))
    np.testing.assert_allclose(mixed, [[50.0, 75.0]])
    assert shares == [0.75]


def test_cutmix_by_hand():
    rows, others = np.zeros((1, 4, 8, 1), np.uint8), np.ones((1, 4, 8, 1), np.uint8)
    drawn = np.array([[0.75, 0.5, 0.25]])  # half of each side, around row 2 and column 2
    mixed, shares = Mixing("cutmix", 0).mix(rows, others, drawn)
    expected = np.zeros((4, 8), np.uint8)
    expected[1:3, 0:4] = 1
    np.testing.assert_array_equal(mixed[0, ..., 0], expected)
    assert mixed.dtype == np.uint8 and shares == [1 - 8 / 32]
    corner, shares = Mixing("cutmix", 0).mix(rows, others, np.array([[0.75, 0.0, 1.0]]))
    assert corner.sum() == 2 and shares == [1 - 2 / 32]  # the part outside is not mixed in, and not counted


def test_the_loss_of_a_mixed_row_is_that_of_both_with_their_weights():
    logs = RANDOM.normal(0, 1, 3)
    one, other = np.eye(3)[[0]], np.eye(3)[[2]]
    targets, weights = mixed_targets(one, np.array([0.5]), other, np.array([15.0]), np.array([0.9]))
    assert weights[0] * (targets[0] @ logs) == pytest.approx(0.9 * 0.5 * logs[0] + 0.1 * 15 * logs[2], rel=1e-5)
    assert targets.sum() == pytest.approx(1)


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_rows_keep_at_least_half_of_themselves_and_are_mixed_with_another_of_their_update(how):
    given, read = examples(how)
    inputs, targets, weights = epoch_of(given)
    real = weights > 0
    assert real.sum() == 11 and not targets[~real].any()
    np.testing.assert_allclose(targets[real].sum(axis=1), 1, rtol=1e-6)
    assert sorted(read) == [1, 11]  # a row to see its size, then each image once: what is mixed in is there already
    positions, partners, scales = (part.ravel() for part in given.order(0))
    drawn = given.mixing.draw(11, 0)
    for row in np.flatnonzero(scales):
        here, other = positions[[row]], partners[[row]]
        assert here != other and row // 4 == np.flatnonzero((positions == other) & (scales > 0))[0] // 4
        mixed, share = given.mixing.mix(IMAGES[here], IMAGES[other], drawn[here])
        np.testing.assert_allclose(inputs[row], mixed[0])
        assert share[0] >= 0.4  # 0.5, but for whole cells
        own = share[0] * WEIGHTS[here[0]] * (LABELS[here[0]] == np.arange(3))
        given_by = (1 - share[0]) * WEIGHTS[other[0]] * (LABELS[other[0]] == np.arange(3))
        np.testing.assert_allclose(targets[row] * weights[row], (own + given_by) * scales[row], rtol=1e-5)


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_an_update_in_parts_is_mixed_like_the_whole(how):
    whole, divided = (epoch_of(examples(how, parts)[0]) for parts in (1, 2))
    for one, other in zip(whole, divided, strict=True):
        np.testing.assert_array_equal(one[whole[2] > 0], other[divided[2] > 0])


def test_what_is_mixed_depends_on_seed_and_epoch_alone():
    first, again, later = (epoch_of(examples("mixup")[0], epoch)[0] for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != later).any()
    assert (epoch_of(examples("mixup", seed=5)[0])[0] != first).any()


def test_without_mixing_rows_are_what_they_are():
    inputs, targets, weights = epoch_of(examples(None)[0])
    assert inputs.dtype == np.uint8 and set(targets.ravel()) == {0.0, 1.0}
    assert (weights > 0).sum() == 11
