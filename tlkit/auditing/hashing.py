"""Perceptual hashes: 64 bits that hardly change when an image is saved again, resized or brightened."""

import numpy as np

SIDE, LOW = 32, 8
BITS = LOW * LOW
_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """uint8 (N, 8): which of the 64 lowest frequencies of a small copy lie above their median.

    The pHash of Zauner (2010): 32 x 32 grey, discrete cosine transform, its top left 8 x 8.

    Args:
        small: (N, 32, 32), grey.
    """
    waves = np.cos(np.pi / SIDE * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5)).astype(np.float32)
    spectrum = (waves @ small.astype(np.float32) @ waves.T).reshape(len(small), BITS)
    spectrum[:, 0] = 0.0  # the mean brightness, which says nothing
    return np.packbits(spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True), axis=1)


def distance(hashes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bits 0..64 in which hashes[left] and hashes[right] differ; int64 (n,).

    Args:
        hashes: uint8 (N, 8).
        left: int (n,), rows.
        right: int (n,), rows.
    """
    return _BITS_SET[hashes[left] ^ hashes[right]].sum(axis=1, dtype=np.int64)
