"""Convolutions of 3 by 3 as ONNX with a quarter of their multiplications.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(4 x 4, 3 x 3), after Winograd. Tiles
of 6 by 6 numbers of each channel, two of them shared with the next tile, are transformed into 36 sums; each of the 36 goes through
a matrix product, channels to filters, over all tiles; and the 16 outputs of a tile are sums of the results. Sums are cheap where there
are many channels. Grids have their channels last here, so that the channels of a position are contiguous in memory.

Kernels are stored unchanged in the file; they are transformed into 36 matrices when it is opened and constants are folded.
"""

import numpy as np

from tlkit.backbones.arithmetic import TILE, tiles
from tlkit.extraction.onnx_parts.writing import Graph, Pads

_OF_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def convolution(
    graph: Graph, source: str, kernel: np.ndarray, shift: np.ndarray | None, pads: Pads, sides: tuple[int, int]
) -> str:
    """Write a convolution with stride 1; returns the name of its output, channels last.

    Args:
        graph: written to.
        source: name of a grid (B, h, w, C).
        kernel: float32 (3, 3, C, K).
        shift: float32 (K,), added; None for nothing.
        pads: zeros around the grid.
        sides: of the output.
    """
    top, left, bottom, right = pads
    down, across = (tiles(side) for side in sides)
    more = (TILE * down - sides[0], TILE * across - sides[1])  # surplus outputs, cut off at the end
    edges = graph.constant((0, top, left, 0, 0, bottom + more[0], right + more[1], 0), np.int64)
    padded = graph.node("Pad", source, edges)
    rows = _spread(graph, [_every(graph, padded, number, down, axis=1) for number in range(6)])
    spread = [_spread(graph, [_every(graph, row, number, across, axis=2) for number in range(6)]) for row in rows]
    matrices = _matrices(graph, kernel)
    products = [[graph.node("MatMul", spread[a][b], matrices[6 * a + b]) for b in range(6)] for a in range(6)]
    if shift is not None:  # added to the product that every output of a tile contains once
        products[1][1] = graph.node("Add", products[1][1], graph.constant(shift))
    gathered = [_gather(graph, [products[a][b] for a in range(6)]) for b in range(6)]
    lines = []
    for number in range(TILE):
        line = graph.node("Concat", *_gather(graph, [column[number] for column in gathered]), axis=3)
        shape = graph.constant((-1, down, 1, TILE * across, kernel.shape[-1]), np.int64)
        lines.append(graph.node("Reshape", line, shape))
    shape = graph.constant((-1, TILE * down, TILE * across, kernel.shape[-1]), np.int64)
    made = graph.node("Reshape", graph.node("Concat", *lines, axis=2), shape)
    if more == (0, 0):
        return made
    bounds = [graph.constant(each, np.int64) for each in ((0, 0), sides, (1, 2))]
    return graph.node("Slice", made, *bounds)


def _matrices(graph: Graph, kernel: np.ndarray) -> list[str]:
    """36 matrices (C, K), computed when the file is opened."""
    channels, filters = kernel.shape[2:]
    turn = np.einsum("ai,bj->abij", _OF_KERNEL, _OF_KERNEL).reshape(36, 9)
    flat = graph.node("MatMul", graph.constant(turn), graph.constant(kernel.reshape(9, channels * filters)))
    every = graph.node("Reshape", flat, graph.constant((36 * channels, filters), np.int64))
    return graph.split(every, 36, axis=0)


def _every(graph: Graph, source: str, first: int, count: int, axis: int) -> str:
    """The row, or column, of each tile with this number."""
    bounds = (first, first + TILE * (count - 1) + 1, axis, TILE)
    return graph.node("Slice", source, *[graph.constant([bound], np.int64) for bound in bounds])


def _spread(graph: Graph, d: list[str]) -> list[str]:
    """Six sums of six numbers of a tile: B of the paper, with shared terms computed once."""

    def minus(one: str, other: str, times: float = 1) -> str:
        made = graph.node("Sub", one, other)
        return made if times == 1 else graph.node("Mul", made, graph.constant(times))

    def plus(one: str, other: str) -> str:
        return graph.node("Add", one, other)

    four = graph.constant(4.0)
    even = minus(d[4], graph.node("Mul", d[2], four))
    odd = minus(d[3], graph.node("Mul", d[1], four))
    near, far = minus(d[4], d[2]), minus(d[3], d[1], 2)
    return [
        plus(minus(d[0], d[2], 4), near),
        plus(even, odd),
        minus(even, odd),
        plus(near, far),
        minus(near, far),
        plus(minus(d[1], d[3], 4), minus(d[5], d[3])),
    ]


def _gather(graph: Graph, m: list[str]) -> list[str]:
    """Four outputs of six products: A of the paper."""

    def plus(one: str, other: str, times: float = 1) -> str:
        other = other if times == 1 else graph.node("Mul", other, graph.constant(times))
        return graph.node("Add", one, other)

    ones, differing = plus(m[1], m[2]), graph.node("Sub", m[1], m[2])
    twos, apart = plus(m[3], m[4]), graph.node("Sub", m[3], m[4])
    return [
        plus(plus(m[0], ones), twos),
        plus(differing, apart, 2),
        plus(ones, twos, 4),
        plus(plus(differing, apart, 8), m[5]),
    ]
