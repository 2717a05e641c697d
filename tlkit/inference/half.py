"""A model that multiplies in bfloat16, by Keras's own mixed precision: for every backend."""

import keras

from tlkit.backbones.graph import copy_weights

# Scaling to what the network was trained on, pooling of the result and the head: cheap, and what follows from them
# is measured in small differences.
_EXACT = (
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)


def in_bfloat16(model: keras.Model) -> keras.Model:
    """A copy of a flat functional model whose layers compute in bfloat16; its outputs are float32.

    Layers in front that only scale pixels, and global pooling, stay in float32. The weights stay in float32 too and
    are rounded as they are used.
    """

    def copied(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if not isinstance(layer, _EXACT) and not layer.name.startswith("preprocess_"):
            config["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=copied)
    copy_weights(model, copy)
    return copy
