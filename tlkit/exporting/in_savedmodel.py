"""The format `savedmodel`, with a second signature for the bytes of image files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.data.dataset import InputContract
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call, Outputs

IMPORTS = "import tensorflow as tf"
RUN = """
model = tf.saved_model.load(str(HERE / "model"))
signature = model.signatures["serving_default"]


def outputs_of(*inputs):
    given = dict(zip(("images", "mask"), map(tf.constant, inputs)))
    return {name: value.numpy() for name, value in signature(**given).items()}
"""

ENCODED = "encoded"  # the second signature


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Write the folder; both signatures share one graph."""
    import tensorflow as tf

    from tlkit.exporting.writers import SERVING, has_encoded, save_functions, traced_graph

    traced = traced_graph(row, classifier)

    def from_bytes(images_bytes: Any) -> dict[str, Any]:
        return traced(decoded(classifier.facts.contract, images_bytes))

    functions = {SERVING: traced}
    if has_encoded(row, classifier):
        contents = tf.TensorSpec((None,), tf.string, name="images_bytes")
        functions[ENCODED] = tf.function(from_bytes, input_signature=[contents], autograph=False)
    save_functions(path, functions)


def open_model(path: Path) -> "Call":
    """A function of images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file has them."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def call(*inputs: np.ndarray) -> "Outputs":
        with tf.device("/CPU:0"):
            given = dict(zip(("images", "mask"), map(tf.constant, inputs), strict=False))
            return {name: value.numpy() for name, value in signature(**given).items()}

    return call


def open_encoded(path: Path) -> Callable[[list[bytes]], np.ndarray]:
    """The second signature of a SavedModel: the bytes of image files -> logits (n, K)."""
    import tensorflow as tf

    from tlkit.exporting.runtimes import quiet

    with quiet(), tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures[ENCODED]

    def call(contents: list[bytes]) -> np.ndarray:
        with tf.device("/CPU:0"):
            return signature(images_bytes=tf.constant(contents))["logits"].numpy()

    return call


def as_png(image: np.ndarray) -> bytes:
    """An image uint8 (H, W, 3) as the bytes of a PNG file, which keeps every pixel."""
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()


# -- Encoded photographs to the network's input inside a TensorFlow graph: close to `data.images`, but not identical ---
#
# Differences (docs/export.md has their size): TensorFlow (2.21) decodes only JPEG, PNG, GIF, BMP and WebP, and a WebP with
# transparency raises and fails the whole batch; it ignores the EXIF orientation and drops transparency where tlkit blends
# with white, rounds once where Pillow rounds twice, and never decodes a large JPEG at reduced size.


def decoded(contract: InputContract, images_bytes: Any) -> Any:
    """float32 (N, H, W, 3), RGB in whole numbers 0..255, from a string tensor (N,) of files."""
    import tensorflow as tf

    def one(content: Any) -> Any:
        image = tf.cond(
            tf.io.is_jpeg(content),
            # `decode_image` takes the fast, less exact transform; Pillow takes this one
            lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        )
        return _fitted(tf.cast(tf.ensure_shape(image, (None, None, 3)), tf.float32), contract)

    shape = tf.TensorSpec((contract.height, contract.width, 3), tf.float32)
    return tf.map_fn(one, images_bytes, fn_output_signature=shape)


def _fitted(image: Any, contract: InputContract) -> Any:
    """One image (h, w, 3) resized according to the contract; edges and centres as in `data.images`."""
    import tensorflow as tf

    target = tf.constant([contract.height, contract.width], tf.float32)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    zero = tf.zeros(2, tf.float32)
    if contract.fit == "squash":
        return _scaled(image, target, target / size, zero, contract)
    if contract.fit == "crop":
        scale = tf.reduce_max(target / size)
        return _scaled(image, target, tf.stack([scale, scale]), (target - size * scale) / 2, contract)
    scale = tf.reduce_min(target / size)
    inner = tf.clip_by_value(tf.round(size * scale), 1.0, target)
    small = _scaled(image, inner, inner / size, zero, None)
    before = tf.cast(target - inner, tf.int32) // 2
    padded = tf.image.pad_to_bounding_box(small, before[0], before[1], contract.height, contract.width)
    return tf.ensure_shape(padded, (contract.height, contract.width, 3))


def _scaled(image: Any, size: Any, scale: Any, translation: Any, contract: InputContract | None) -> Any:
    """Antialiased bilinear resize, rounded to whole numbers as Pillow's is."""
    import tensorflow as tf

    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=tf.cast(size, tf.int32),
        scale=scale,
        translation=translation,
        kernel_type="triangle",
        antialias=True,
    )[0]
    whole = tf.clip_by_value(tf.floor(resized + 0.5), 0.0, 255.0)
    return whole if contract is None else tf.ensure_shape(whole, (contract.height, contract.width, 3))
