"""Views: what teacher and student see of the pool's images, different at every step.

Crops, colours and blends of two images, given alike to both ("A good teacher is patient and consistent", Beyer et al.
2022). Blends are even (mixup, Zhang et al. 2017) or cut along the contours of smooth noise (FMix, Harris et al. 2020).
"""

import tensorflow as tf

SMALLEST_AREA = 0.3


def random_views(images: tf.Tensor, size: int) -> tf.Tensor:
    """Images `(B, S, S, 3)` uint8 to views `(B, size, size, 3)` float32, 0..255. B must be even."""
    views = _recolour(_crop(tf.cast(images, "float32"), size))
    return tf.clip_by_value(_blend(views), 0.0, 255.0)


def shrink(views: tf.Tensor, size: int) -> tf.Tensor:
    """Views at the student's size, antialiased."""
    return tf.image.resize(views, (size, size), antialias=True)


def _crop(images: tf.Tensor, size: int) -> tf.Tensor:
    """A random rectangle of each image, half of them mirrored."""
    count = tf.shape(images)[0]
    area = tf.random.uniform((count,), SMALLEST_AREA, 1.0)
    aspect = tf.exp(tf.random.uniform((count,), -0.3, 0.3))
    height = tf.minimum(tf.sqrt(area * aspect), 1.0)
    width = tf.minimum(tf.sqrt(area / aspect), 1.0)
    top = tf.random.uniform((count,)) * (1 - height)
    left = tf.random.uniform((count,)) * (1 - width)
    right = left + width
    mirrored = tf.random.uniform((count,)) < 0.5
    boxes = tf.stack([top, tf.where(mirrored, right, left), top + height, tf.where(mirrored, left, right)], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(count), (size, size))


def _recolour(images: tf.Tensor) -> tf.Tensor:
    """Contrast, brightness and one 3x3 colour matrix per image, from greyscale to vivid and a turn of the hue."""
    shape = (tf.shape(images)[0], 1, 1)
    saturation = tf.where(tf.random.uniform(shape) < 0.15, 0.0, tf.random.uniform(shape, 0.4, 1.5))
    grey = tf.constant([0.299, 0.587, 0.114])[:, None] * tf.ones((1, 3))
    matrix = saturation * tf.eye(3) + (1 - saturation) * grey + _hue_turn(shape)
    matrix *= tf.random.uniform(shape, 0.6, 1.4)
    mean = tf.reduce_mean(images, (1, 2), keepdims=True)
    shift = tf.random.normal(tf.shape(mean)[:3], stddev=20.0)[..., None]
    return tf.einsum("bhwc,bcd->bhwd", images - mean, matrix) + mean + shift


def _hue_turn(shape: tuple) -> tf.Tensor:
    """A small rotation about the grey axis, `(B, 3, 3)`: adds to the identity."""
    turn = tf.constant([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]) / tf.sqrt(3.0)
    return tf.random.normal(shape, stddev=0.15) * turn


def _blend(views: tf.Tensor) -> tf.Tensor:
    """Each view with its neighbour: a third untouched, a third blended evenly, a third cut along noise."""
    count, size = tf.shape(views)[0], views.shape[1]
    others = tf.reverse(views, [0])
    kind = tf.random.uniform((count, 1, 1, 1))
    share = tf.random.uniform((count, 1, 1, 1))
    smooth = tf.image.resize(tf.random.normal((count, 5, 5, 1)), (size, size), "bicubic")
    mask = tf.cast(smooth > tf.random.normal((count, 1, 1, 1), stddev=0.7), "float32")
    weight = tf.where(kind < 1 / 3, 1.0, tf.where(kind < 2 / 3, share, mask))
    return weight * views + (1 - weight) * others
