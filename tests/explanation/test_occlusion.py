import numpy as np

from tlkit.explanation.heat_maps import PATCHES, occlusion, occlusion_lattice


def test_the_map_is_high_where_covering_hurts():
    """The score is the brightness of one spot; only patches over it matter."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[40:48, 24:36] = 255

    def score(images):
        return images[:, 40:48, 24:36].mean(axis=(1, 2, 3))

    found = occlusion(score, image)
    assert found.shape == (PATCHES, PATCHES) and found.dtype == np.float32
    lattice = occlusion_lattice((64, 96))
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert abs(lattice.rows.centres[y] - 44) <= 8 and abs(lattice.columns.centres[x] - 30) <= 12
    far = np.abs(lattice.rows.centres - 44) > 20
    assert (found[far] <= 0).all()


def test_a_plain_image_has_nothing_to_cover():
    assert (occlusion(lambda images: images.mean(axis=(1, 2, 3)), np.full((40, 40, 3), 90, np.uint8)) == 0).all()
