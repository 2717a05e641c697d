#!/usr/bin/env bash
# What: netcal's TemperatureScaling and LogisticCalibration do nothing to probabilities of float32: the temperature stays at exactly 1
#   and what comes out is what went in; BetaCalibration makes them worse. The same numbers as float64 are calibrated as they should be.
# Why it surprises: float32 is what every network returns, both types are accepted, fit and transform run without a word, and binning
#   and isotonic regression of the same package are right. SciPy's optimiser gets a function computed in float32, whose slope over
#   steps of 1e-8 is zero, and is content with where it started; that it converged is taken for granted.
# Who is hurt: whoever calibrates a network and does not measure again: the log loss of an overconfident one stays at 1.62 in place
#   of 1.08, and a comparison of methods says that temperature scaling is of no use.
# Instead: probabilities.astype("float64") before fit and transform (checked below).
# Source: https://pypi.org/project/netcal/ ("this is a NumPy 2-D array with confidence estimates between 0-1"); users who met it without
#   its cause: EFS-OpenSource/calibration-framework#48, closed.
# Guessed beforehand: float32 and float64 agree to four digits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check netcal==1.4.0 torch==2.13.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from netcal.binning import IsotonicRegression
from netcal.scaling import BetaCalibration, LogisticCalibration, TemperatureScaling

print("netcal", version("netcal"), "SciPy", version("scipy"), "PyTorch", version("torch"))
random = np.random.default_rng(0)
images, classes = 5000, 5


def softmax(logits):
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def draw():
    logits = random.normal(0, 1.5, (images, classes))
    honest = softmax(logits)
    labels = (honest.cumsum(1) < random.random((images, 1))).sum(1).clip(max=classes - 1)
    return softmax(3 * logits), labels, honest  # three times as sure as it should be: the right temperature is 1/3


def loss(probabilities, labels):
    return -np.log(probabilities[np.arange(images), labels].astype("float64").clip(1e-12)).mean()


(fitted, fitted_labels, _), (sure, labels, honest) = draw(), draw()
print(f"  log loss {loss(sure, labels):.3f} as the network returns it, {loss(honest, labels):.3f} if it were calibrated")
for method in (TemperatureScaling, LogisticCalibration, BetaCalibration, IsotonicRegression):
    for kind in ("float64", "float32"):
        calibration = method()
        calibration.fit(fitted.astype(kind), fitted_labels)
        found = calibration.transform(sure.astype(kind))
        unchanged = np.abs(found - sure).max() < 1e-5
        told = f", temperature {float(calibration.temperature[0]):.3f}" if method is TemperatureScaling else ""
        print(f"  {method.__name__}, {kind}: {loss(found, labels):.3f}{told}{', nothing has changed' if unchanged else ''}")
        if kind == "float32" and method is BetaCalibration:
            assert loss(found, labels) > loss(sure, labels), "float32 is calibrated by Beta now"
        elif kind == "float32" and method is not IsotonicRegression:
            assert unchanged, "float32 is calibrated now"
        else:
            assert loss(found, labels) < loss(honest, labels) + 0.1
PY
