"""A conditional generative adversarial network on features: Wasserstein distance with a gradient penalty.

Gulrajani et al. (2017), on the principal components of the training features. Generator and critic have two hidden layers, small
enough for NumPy: a step takes a fraction of a millisecond, and it runs the same with every backend of Keras. The gradient of a
critic of leaky rectifiers is a product of its kernels and of masks that are constant almost everywhere, so the penalty on it
has a gradient in closed form.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.training.synthesis.draw import Drawn, wanted

COMPONENTS, NOISE, HIDDEN = 64, 32, 128
STEPS, CRITIC_STEPS, BATCH = 400, 5, 64
RATE, BETAS = 5e-4, (0.5, 0.9)
PENALTY = 10.0  # of Gulrajani et al.
LEAK = 0.2

Weights = list[np.ndarray]  # kernel and bias of three layers in turn


class Passed(NamedTuple):
    """The results of a forward pass: the inputs of its layers, the masks of its hidden ones, its outputs."""

    inputs: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    outputs: np.ndarray


def network(sizes: Sequence[int], random: np.random.Generator) -> Weights:
    """Kernels scaled for rectifiers (He et al. 2015), biases 0."""
    made: Weights = []
    for before, after in pairwise(sizes):
        made += [
            (random.standard_normal((before, after)) * np.sqrt(2 / before)).astype(np.float32),
            np.zeros(after, "f4"),
        ]
    return made


def forward(weights: Weights, inputs: np.ndarray) -> Passed:
    """Three layers with leaky rectifiers between them."""
    seen, masks, values = [], [], inputs
    for place in range(0, len(weights), 2):
        seen.append(values)
        values = values @ weights[place] + weights[place + 1]
        if place < len(weights) - 2:
            masks.append(np.where(values > 0, np.float32(1), np.float32(LEAK)))
            values = values * masks[-1]
    return Passed(seen, masks, values)


def backward(weights: Weights, passed: Passed, slope: np.ndarray) -> tuple[Weights, np.ndarray]:
    """Gradients of the weights and of the inputs, from those of the outputs."""
    found: Weights = [np.empty(0)] * len(weights)
    for layer in reversed(range(len(weights) // 2)):
        if layer < len(passed.masks):
            slope = slope * passed.masks[layer]
        found[2 * layer], found[2 * layer + 1] = passed.inputs[layer].T @ slope, slope.sum(axis=0)
        slope = slope @ weights[2 * layer].T
    return found, slope


def penalty(weights: Weights, between: np.ndarray, width: int) -> tuple[float, Weights]:
    """Mean of (norm of the critic's gradient - 1)^2 times `PENALTY`, and its gradient.

    Args:
        weights: of the critic.
        between: its inputs (B, width + K); the gradient is by the first `width`, not by the class.
        width: of the features.
    """
    first, _, second, _, last, _ = weights
    one, two = forward(weights, between).masks
    above = two * last[:, 0]
    below = above @ second.T * one
    slope = below @ first[:width].T
    length = np.sqrt((slope**2).sum(axis=1, keepdims=True)) + 1e-8
    towards = (2 * PENALTY / len(between)) * (length - 1) * slope / length
    found = [np.zeros_like(each) for each in weights]
    found[0][:width] = towards.T @ below
    back = towards @ first[:width] * one
    found[2] = back.T @ above
    found[4][:, 0] = (back @ second * two).sum(axis=0)
    return PENALTY * float(((length - 1) ** 2).mean()), found


class Adam:
    """Kingma & Ba (2015), on a list of arrays in place."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.step = weights, 0
        self.first, self.second = ([np.zeros_like(each) for each in weights] for _ in range(2))

    def update(self, gradients: Weights) -> None:
        """Take one step downhill."""
        self.step += 1
        size = RATE * (1 - BETAS[1] ** self.step) ** 0.5 / (1 - BETAS[0] ** self.step)
        for weight, slope, first, second in zip(self.weights, gradients, self.first, self.second, strict=True):
            first += (1 - BETAS[0]) * (slope - first)
            second += (1 - BETAS[1]) * (slope**2 - second)
            weight -= size * first / (np.sqrt(second) + 1e-8)


def draw_gan(features: np.ndarray, labels: np.ndarray, seed: int) -> Drawn:
    """The features that a generator trained on features (N, C) makes for the `wanted` labels."""
    named = wanted(labels)
    random = np.random.default_rng((seed, 6))
    mean = features.mean(axis=0)
    _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    count = max(1, min(COMPONENTS, int((sizes > 1e-5 * max(float(sizes[0]), 1e-30)).sum())))
    axes, scale = axes[:count], sizes[0] / np.sqrt(len(features))
    with threadpool_limits(1):  # on products this small, threads of BLAS wait for each other longer than they work
        generator = trained((features - mean) @ axes.T / max(float(scale), 1e-12), labels, random)
    classes = np.eye(len(np.bincount(labels)), dtype=np.float32)
    noise = random.standard_normal((len(named), NOISE), dtype=np.float32)
    codes = forward(generator, np.concatenate([noise, classes[named]], axis=1)).outputs
    return (codes * float(scale) @ axes + mean).astype(np.float32), named


def trained(codes: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> Weights:
    """Train the generator; every class is shown equally often, so that rare ones are learned too."""
    codes, width = codes.astype(np.float32), codes.shape[1]
    sizes = np.bincount(labels)
    order, starts, there = np.argsort(labels, kind="stable"), np.cumsum(sizes) - sizes, np.flatnonzero(sizes)
    names = np.eye(len(sizes), dtype=np.float32)
    generator = network((NOISE + len(sizes), HIDDEN, HIDDEN, width), random)
    critic = network((width + len(sizes), HIDDEN, HIDDEN, 1), random)
    of_generator, of_critic = Adam(generator), Adam(critic)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        """A batch of classes with noise, as the generator reads them."""
        chosen = there[random.integers(len(there), size=BATCH)]
        noise = random.standard_normal((BATCH, NOISE), dtype=np.float32)
        return chosen, np.concatenate([noise, names[chosen]], axis=1)

    for _ in range(STEPS):
        for _ in range(CRITIC_STEPS):
            chosen, asked = batch()
            real = codes[order[starts[chosen] + (random.random(BATCH) * sizes[chosen]).astype(int)]]
            made = forward(generator, asked).outputs
            part = random.random((BATCH, 1), dtype=np.float32)
            both = np.concatenate([np.concatenate([real, made]), np.tile(names[chosen], (2, 1))], axis=1)
            sign = np.repeat(np.array([-1 / BATCH, 1 / BATCH], np.float32), BATCH)[:, None]
            apart, _ = backward(critic, forward(critic, both), sign)
            _, smooth = penalty(critic, np.concatenate([part * real + (1 - part) * made, names[chosen]], axis=1), width)
            of_critic.update([one + other for one, other in zip(apart, smooth, strict=True)])
        chosen, asked = batch()
        passed = forward(generator, asked)
        judged = forward(critic, np.concatenate([passed.outputs, names[chosen]], axis=1))
        _, slope = backward(critic, judged, np.full((BATCH, 1), -1 / BATCH, np.float32))
        of_generator.update(backward(generator, passed, slope[:, :width])[0])
    return generator
