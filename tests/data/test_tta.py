import numpy as np

from tlkit.data.views import TtaViews

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def test_mirror_images_follow_what_they_mirror():
    both, upright = TtaViews(flip=True), TtaViews(flip=False)
    assert (both.count, upright.count) == (12, 6)
    np.testing.assert_array_equal(both.view(IMAGES, None, 0), IMAGES)
    for number in range(6):
        plain = both.view(IMAGES, None, 2 * number)
        np.testing.assert_array_equal(plain, upright.view(IMAGES, None, number))
        np.testing.assert_array_equal(both.view(IMAGES, None, 2 * number + 1), plain[:, :, ::-1])
        assert both.describe(2 * number) == upright.describe(number)


def test_crops_show_seven_eighths_of_the_sides_where_they_say():
    """On a ramp from 0 to 1, a crop's mean is the middle of what it shows: the centre, or a sixteenth beside it."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None], (1, 64, 64, 3))
    views = TtaViews(flip=False)
    shown = [views.view(ramp, None, number).mean() for number in range(6)]
    np.testing.assert_allclose(shown, [31.5, 31.5, 27.5, 35.5, 35.5, 27.5], atol=0.5)
    turned = np.ascontiguousarray(ramp.transpose(0, 2, 1, 3))
    shown = [views.view(turned, None, number).mean() for number in range(6)]
    np.testing.assert_allclose(shown, [31.5, 31.5, 27.5, 35.5, 27.5, 35.5], atol=0.5)


def test_descriptions_differ_where_views_do():
    views = TtaViews(flip=True)
    assert len({str(views.describe(number)) for number in range(views.count)}) == views.count
