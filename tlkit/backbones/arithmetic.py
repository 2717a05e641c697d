"""The arithmetic of layers: its amount, and attention and dense layers as products of two matrices.

TensorFlow computes such products faster on a CPU than Keras's einsums. A dense layer on tokens (B, T, C) is a product of
(B T, C) with its kernel, which TensorFlow fuses with bias and activation, where Keras's own tensordot puts a reshape between.
Queries, keys and values are one product instead of three einsums. Outputs and gradients are those of the layer up to
rounding.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import Call, calls, functional

ops = keras.ops
SQRT_HALF, DENSITY_AT_ZERO = 0.7071067811865476, 0.3989422804014327
Forward = Callable[..., Any]


def quicker(operation: Any) -> Forward | None:
    """A faster function for a layer, in inference and in training; None where the layer itself is best.

    It reads the layer's variables on each call, so that a scope may give them other values, and computes in the type in which
    the layer computes then, float32 or bfloat16.

    Args:
        operation: a layer, or an operation that is not a layer.
    """
    kind = FORWARDS.get(type(operation))
    plain = getattr(operation, "variable_dtype", "") == "float32" and operation.compute_dtype in ("float32", "bfloat16")
    if kind is None or keras.backend.backend() != "tensorflow" or not plain:
        return None
    return kind(operation)


def _rows(tensor: Any, kernel: Any, bias: Any, activation: Any = None) -> Any:
    """Rows (N, C) times a kernel (C, D), plus a bias."""
    import tensorflow as tf

    made = tf.matmul(tensor, kernel)
    if bias is not None:
        made = tf.nn.bias_add(made, bias) if made.dtype == tf.float32 else made + bias  # see `exactly_biased`
    return made if activation is None else activation(made)


def _number(variable: Any, kind: str) -> Any:
    return None if variable is None else ops.cast(variable, kind)


def _dense(layer: Any) -> Forward | None:
    if layer.lora_enabled or getattr(layer, "quantization_mode", None):
        return None

    def forward(tensor: Any, training: bool | None = None) -> Any:
        if len(tensor.shape) < 3 or None in tensor.shape[1:]:
            return layer(tensor)
        kind, (*places, width) = layer.compute_dtype, tensor.shape[1:]
        tensor, kernel, bias = _taken_in(tensor, layer.kernel, layer.bias)
        rows = ops.reshape(ops.cast(tensor, kind), (-1, width))
        activation = layer.activation
        if _is_gelu(layer):
            activation = _learning_gelu if training else _gelu
        made = _rows(rows, _number(kernel, kind), _number(bias, kind), activation)
        return ops.reshape(made, (-1, *places, layer.units))

    return forward


def _is_gelu(layer: Any) -> bool:
    return layer.activation is keras.activations.gelu


def _gelu(tensor: Any) -> Any:
    """Hendrycks & Gimpel 2016, in the form that TensorFlow fuses with the product before it."""
    return 0.5 * tensor * (1.0 + ops.erf(tensor * SQRT_HALF))


def _learning_gelu(tensor: Any) -> Any:
    """The same with its gradient in closed form, in two thirds of the memory passes of the chain rule."""
    import tensorflow as tf

    @tf.custom_gradient
    def gelu(values: Any) -> tuple[Any, Forward]:
        below = 0.5 + 0.5 * ops.erf(values * SQRT_HALF)  # cumulative normal distribution; its derivative is the density

        def gradient(upstream: Any) -> Any:
            return upstream * (below + values * (DENSITY_AT_ZERO * ops.exp(-0.5 * values * values)))

        return values * below, gradient

    return gelu(tensor)


def _attention(layer: Any) -> Forward | None:
    plain = layer.get_config()
    asked = [plain.get(name) for name in ("attention_axes", "output_shape", "use_gate")]
    if (
        any(each not in (None, False, (1,), [1]) for each in asked)
        or plain.get("dropout")
        or plain.get("value_dim")
        not in (
            None,
            layer.key_dim,
        )
    ):
        return None
    parts = (layer.query_dense, layer.key_dense, layer.value_dense)
    if any(getattr(part, "lora_enabled", False) for part in (*parts, layer.output_dense)):
        return None
    heads, depth = layer.num_heads, layer.key_dim

    def forward(query: Any, value: Any, *others: Any, training: bool | None = None, **options: Any) -> Any:
        if value is not query or others or any(each is not None for each in options.values()):
            return layer(query, value, *others, training=training, **options)
        import tensorflow as tf

        kind, (count, width) = layer.compute_dtype, query.shape[1:]
        kernels = [ops.reshape(part.kernel, (width, heads * depth)) for part in parts]
        biases = [ops.reshape(part.bias, (heads * depth,)) for part in parts if part.bias is not None]
        added = ops.concatenate(biases) if biases else None
        tokens, kernel, added = _taken_in(query, ops.concatenate(kernels, axis=1), added)
        rows = ops.reshape(ops.cast(tokens, kind), (-1, width))
        three = _rows(rows, _number(kernel, kind), _number(added, kind))
        three = ops.transpose(ops.reshape(three, (-1, count, 3, heads, depth)), (2, 0, 3, 1, 4))
        # The gradient of unstacking is one copy; that of a slice is a whole tensor of zeros.
        asking, asked, told = tf.unstack(three)
        shares = tf.nn.softmax(tf.matmul(asking * depth**-0.5, asked, transpose_b=True))
        mixed = ops.transpose(tf.matmul(shares, told), (0, 2, 1, 3))
        kernel = ops.reshape(_number(layer.output_dense.kernel, kind), (heads * depth, -1))
        made = _rows(ops.reshape(mixed, (-1, heads * depth)), kernel, _number(layer.output_dense.bias, kind))
        return ops.reshape(made, (-1, count, kernel.shape[-1]))

    return forward


FORWARDS: dict[type, Callable[[Any], Forward | None]] = {
    keras.layers.Dense: _dense,
    keras.layers.MultiHeadAttention: _attention,
}


# -- A layer normalisation whose scale and offset go into the products that read it -----------------
#
# Its gradient then takes fewer passes over memory. Where nothing learns before it, it needs no pass at all: the gradient of
# the scale follows from that of the kernel, and a product with the kernel is saved.


@dataclass(frozen=True)
class Normed:
    """Tokens of mean 0 and variance 1, with the scale and offset still to be applied.

    Args:
        values: (B, T, C), in the type in which the layer computes.
        scale: float32 (C,), to multiply them by.
        offset: float32 (C,), to add afterwards.
    """

    values: Any
    scale: Any
    offset: Any

    @property
    def shape(self) -> tuple[int | None, ...]:
        """That of the tokens."""
        return tuple(self.values.shape)


def _taken_in(tensor: Any, kernel: Any, bias: Any) -> tuple[Any, Any, Any]:
    """A tensor, kernel (C, D) and bias (D,) or None, such that their product needs no scale and offset before it."""
    if not isinstance(tensor, Normed):
        return tensor, kernel, bias
    added = ops.matmul(tensor.offset, kernel)
    return tensor.values, ops.expand_dims(tensor.scale, 1) * kernel, added if bias is None else bias + added


def normed(layer: keras.layers.LayerNormalization, tensor: Any) -> Normed:
    """The output of a layer that `is_split`, with its gradient in closed form (Ba et al. 2016)."""
    import tensorflow as tf

    mean_of = partial(tf.reduce_mean, axis=-1, keepdims=True)

    @tf.custom_gradient
    def standardised(tokens: Any) -> tuple[Any, Forward]:
        apart = tokens - mean_of(tokens)
        factor = tf.math.rsqrt(mean_of(tf.square(apart)) + layer.epsilon)
        made = apart * factor

        def gradient(upstream: Any) -> Any:
            return factor * (upstream - mean_of(upstream) - made * mean_of(upstream * made))

        return made, gradient

    values = ops.cast(standardised(ops.cast(tensor, "float32")), layer.compute_dtype)
    return Normed(values, ops.convert_to_tensor(layer.gamma), ops.convert_to_tensor(layer.beta))


def is_split(layer: Any, readers: Iterable[Any]) -> bool:
    """Whether scale and offset of a layer normalisation can go into all its readers, layers called with only its output."""
    tokens = type(layer) is keras.layers.LayerNormalization and len(layer.output.shape) == 3
    plain = tokens and layer.axis in (-1, 2, [-1], [2]) and layer.center and layer.scale and not layer.rms_scaling
    return bool(plain and layer.variable_dtype == "float32" and all(map(quicker, readers)))


# -- Convolutions in bfloat16 ---

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def _in_bfloat16(layer: Any) -> bool:
    return bool(keras.backend.backend() == "tensorflow" and layer.compute_dtype == "bfloat16")


def exactly_biased(layer: Any) -> Forward | None:
    """A convolution in bfloat16 with the correct gradient of its bias; None where the layer itself has it.

    TensorFlow 2.21 sums the gradient of `bias_add`, which Keras uses for every bias, in bfloat16 on a CPU: a sum of ones stops at
    256, so that a bias learns at a fraction of its rate (findings/keras_bfloat16_bias.sh). The gradient of a plain sum is summed in float32.
    """
    plain = type(layer) in _CONVOLUTIONS and layer.use_bias and layer.data_format == "channels_last"
    if not plain or not _in_bfloat16(layer):
        return None

    def forward(tensor: Any) -> Any:
        made = unbiased(layer, tensor) + ops.cast(layer.bias, layer.compute_dtype)
        return made if layer.activation is None else layer.activation(made)

    return forward


def unbiased(layer: Any, tensor: Any) -> Any:
    """The output of a convolution without its bias and activation."""
    kept = layer.use_bias, layer.activation
    layer.use_bias, layer.activation = False, None
    try:
        return layer(tensor)
    finally:
        layer.use_bias, layer.activation = kept


# On small grids oneDNN takes as long for the gradient of a kernel as in float32, or longer: for 512 by 512 filters of 3 by 3 on 7 by 7
# positions twice, for 1,024 by 2,048 of one pixel with stride two three times as long as matrix products (docs/log.md).

SMALL = 64  # positions in the output of a convolution


def is_small(layer: Any) -> bool:
    """Whether `convolve` is better for the gradient of a convolution's kernel, in its current precision."""
    return (
        type(layer) is keras.layers.Conv2D
        and _in_bfloat16(layer)
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
        and None not in (places := layer.output.shape[1:3])
        and math.prod(places) <= SMALL
    )


def convolve(inputs: Any, kernel: Any, strides: tuple[int, int], padding: str) -> Any:
    """A convolution of a grid (B, H, W, C) with a kernel (h, w, C, D), whose gradient is a matrix product for each position of the kernel."""
    import tensorflow as tf

    padding = padding.upper()  # as TensorFlow writes it

    @tf.custom_gradient
    def convolution(values: Any, filters: Any) -> tuple[Any, Forward]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            before = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(values),
                filter=filters,
                out_backprop=upstream,
                strides=[1, *strides, 1],
                padding=padding,
            )
            return before, _of_the_kernel(values, upstream, tuple(filters.shape[:2]), strides, padding)

        return tf.nn.conv2d(values, filters, strides, padding), gradient

    return convolution(inputs, kernel)


def _of_the_kernel(values: Any, upstream: Any, size: tuple[int, int], strides: tuple[int, int], padding: str) -> Any:
    """The gradient (h, w, C, D) of a kernel. Strided slices take TensorFlow ten times as long as contiguous ones."""
    import tensorflow as tf

    channels, filters, made = values.shape[3], upstream.shape[3], upstream.shape[1:3]
    parts, margins = [], []
    for side, places, extent, step in zip(values.shape[1:3], made, size, strides, strict=True):
        missing = max((places - 1) * step + extent - side, 0) if padding == "SAME" else 0
        parts.append(places + (extent - 1) // step)  # of `step` positions each
        margins.append((missing // 2, parts[-1] * step - side - missing // 2))
    values = values[:, : values.shape[1] + min(margins[0][1], 0), : values.shape[2] + min(margins[1][1], 0)]
    values = tf.pad(values, [(0, 0), *((first, max(last, 0)) for first, last in margins), (0, 0)])
    values = tf.reshape(values, (-1, parts[0], strides[0], parts[1], strides[1] * channels))
    upstream = tf.reshape(upstream, (-1, filters))

    def product(row: int, column: int) -> Any:
        (above, down), (left, right) = divmod(row, strides[0]), divmod(column, strides[1])
        read = values[
            :, above : above + made[0], down, left : left + made[1], right * channels : (right + 1) * channels
        ]
        return tf.matmul(tf.reshape(read, (-1, channels)), upstream, transpose_a=True)

    products = [product(row, column) for row in range(size[0]) for column in range(size[1])]
    return tf.reshape(tf.stack(products), (*size, channels, filters))


# -- What layers cost ---


def operations(layers: Iterable[keras.layers.Layer]) -> float:
    """Multiply-adds of one forward pass of one image, in layers with a kernel and in attention."""
    total = 0.0
    for layer in layers:
        if isinstance(layer, keras.layers.MultiHeadAttention):
            total += _attention_operations(layer)
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            kernel = getattr(layer, "depthwise_kernel", None)
        if kernel is not None:
            positions = np.prod(layer.output.shape[1:-1], dtype=float)
            total += positions * np.prod(kernel.shape, dtype=float)
    return float(total)


TILE = 4  # outputs of a tile along a side; it reads two more
PRODUCTS = 36 / 16  # for each output, channel and filter; 9 when computed directly
# Cost of the sums for each input or output number, in multiply-adds: measured on two cores of an AMD EPYC.
SUMS = 250
FASTER = 1.3  # estimated speed-up that is required, since grids are transposed before and after
LEAD = 0.09  # lead of TensorFlow, as a share of the time that ONNX Runtime takes for the same multiplications


def tiles(side: int) -> int:
    """The number of tiles along a side of a grid."""
    return -(-side // TILE)


def spared(call: Call) -> float:
    """Multiply-adds per image that a convolution saves by tiles (`extraction.onnx_parts.winograd`); 0 where that does not pay."""
    layer = call.operation
    if type(layer).__name__ != "Conv2D" or layer.groups > 1 or (*layer.kernel_size, *layer.strides) != (3, 3, 1, 1):
        return 0.0
    height, width, filters = call.outputs[0].shape[1:]
    if None in (height, width) or tuple(layer.dilation_rate) != (1, 1):
        return 0.0
    channels = call.node.input_tensors[0].shape[-1]
    direct = 9.0 * channels * filters * height * width
    filled = tiles(height) * tiles(width) * TILE**2
    fast = filled * (PRODUCTS * channels * filters + SUMS * (channels + filters))
    return direct - fast if direct > FASTER * fast else 0.0


def gain(model: keras.Model) -> float:
    """Lead of ONNX Runtime over TensorFlow with those saved, in multiply-adds per image; below 0 where it is slower."""
    return sum(spared(call) for call in calls(functional(model))) - LEAD * operations(model.layers)


def _attention_operations(layer: keras.layers.MultiHeadAttention) -> float:
    """Multiply-adds of its four projections, and of every token with every other."""
    tokens, width = layer.output.shape[1], layer.num_heads * layer.key_dim
    return float(tokens) * (4 * layer.output.shape[-1] * width + 2 * tokens * width)


def held_inside(layer: Any, shape: tuple[int, ...]) -> int:
    """Numbers that a layer keeps per image until its gradient is computed, besides its output, which has this shape."""
    if isinstance(layer, keras.layers.MultiHeadAttention):
        # Queries, scaled queries, keys, values, their weighted mean, and the attention weights.
        return shape[0] * (5 * layer.num_heads * layer.key_dim + layer.num_heads * shape[0])
    made = int(np.prod(shape))
    if isinstance(layer, keras.layers.LayerNormalization):  # the deviations from its mean
        return made
    return 2 * made if isinstance(layer, keras.layers.Dense) and _is_gelu(layer) else 0
