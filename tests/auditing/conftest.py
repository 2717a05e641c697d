import numpy as np
import pytest
from PIL import Image, ImageFilter


@pytest.fixture(scope="session")
def photographs():
    """60 soft random pictures of 160x120, all different: PIL images."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(60):
        coarse = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        made.append(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).filter(ImageFilter.BoxBlur(2)))
    return made
