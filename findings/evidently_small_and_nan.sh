#!/usr/bin/env bash
# What: with more than 1,000 rows Evidently measures drift of a column of numbers in units of its deviation, but never of less
#   than 0.001: a probability that rises tenfold, from 0.00001 to 0.0001, is "no drift", and of the same numbers times a
#   million it is the strongest there is. And NaN are left out first: a column half of which is NaN has not drifted.
# Why it surprises: the distance is named "normed", which is to say that the unit does not matter, and nothing is said of a
#   bound. With 1,000 rows or fewer another test is taken, and the same drift is found.
# Who is hurt: whoever watches the outputs of a classifier with hundreds of classes, or of rare findings: all that is small.
#   A camera that fails gives NaN in half of the features, and the report is green.
# Instead: multiply small columns first, or choose the test, num_method="ks" (both checked below); count missing values apart.
# Source: https://docs-old.evidentlyai.com/reference/data-drift-algorithm (Wasserstein distance over 1,000 rows, threshold 0.1).
# Guessed beforehand: yes, both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check evidently==0.7.23 pandas==2.3.3 numpy==2.4.6
venv/bin/python -W ignore - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import evidently, numpy as np, pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

print("Evidently", evidently.__version__, "pandas", pd.__version__)
random = np.random.default_rng(0)


def tables(rows):
    before = pd.DataFrame({"rare": random.gamma(4, 1e-5 / 4, rows), "feature": random.normal(0, 1, rows)})
    after = pd.DataFrame({"rare": random.gamma(4, 1e-4 / 4, rows), "feature": random.normal(0, 1, rows)})
    after.loc[::2, "feature"] = np.nan
    for table in (before, after):
        table["rare times a million"] = table["rare"] * 1e6
    return after, before


def drift(rows, **options):
    report = Report([DataDriftPreset(**options)]).run(*tables(rows)).dict()
    found = {}
    for metric in report["metrics"]:
        if metric["metric_name"].startswith("ValueDrift"):
            name = metric["metric_name"]
            distance = "method=Wasserstein" in name
            value = float(metric["value"])
            found[name.split("column=")[1].split(",")[0]] = value >= 0.1 if distance else value < 0.05, value, name.split("method=")[1].split(",")[0]
    return found


for rows, options in ((5000, {}), (900, {}), (5000, {"num_method": "ks"})):
    found = drift(rows, **options)
    for name, (drifted, value, method) in found.items():
        print(f"  {rows} rows, {name}: {'drift' if drifted else 'no drift'} ({method}, {value:.2g})")
    assert found["rare times a million"][0] and not found["feature"][0], "a column half of NaN drifts now"
    assert found["rare"][0] == (rows == 900 or bool(options)), "small numbers are measured otherwise now"
PY
