"""Heads on pooled features: linear and mlp."""

from typing import Any

from tlkit.classifier.heads.build import activated, dense, dropped
from tlkit.options.groups import HeadOptions


def linear(features: Any, options: HeadOptions) -> Any:
    """No layers before the logits: the features themselves (B, C)."""
    return features


def mlp(features: Any, options: HeadOptions) -> Any:
    """Dense layers of the sizes in `options.hidden`: (B, C) -> (B, last size)."""
    for number, units in enumerate(options.hidden, start=1):
        features = dropped(features, options, f"head_dropout_{number}")
        features = dense(units, options, f"head_dense_{number}")(features)
        features = activated(features, options, f"head_activation_{number}")
    return features
