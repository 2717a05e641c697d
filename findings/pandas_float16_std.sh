#!/usr/bin/env bash
# What: from 65,520 rows on the standard deviation and the variance of a float16 column are 0 in pandas, in std(), var(),
#   sem(), describe() and a whole table: the number of rows is taken into float16, where it is infinite. With a few thousand
#   rows they are right, and so are the mean, the median and the groups of groupby.
# Why it surprises: the mean is right at any length, and a deviation of exactly 0 means a constant column. NumPy is right.
#   A warning of an overflow "in cast" names neither the column nor what came of it, and comes once.
# Who is hurt: features of a network run in mixed precision, kept as float16 to halve the file: (x - mean) / std is infinite or
#   NaN, a filter of constant columns drops all of them, an interval has no width. It passes on a sample of the data.
# Instead: astype("float32") first (checked below), or NumPy.
# Source: https://pandas.pydata.org/docs/reference/api/pandas.Series.std.html.
# Guessed beforehand: that the mean would be infinite or 0. It is right; the deviation is not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check pandas==3.1.1 numpy==2.4.6
venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import numpy as np, pandas as pd

print("pandas", pd.__version__, "NumPy", np.__version__)
random = np.random.default_rng(0)
for rows in (10_000, 65_000, 66_000, 200_000):
    values = random.normal(2, 1, (rows, 3)).astype("float16")
    table = pd.DataFrame(values, columns=list("abc"))
    column = table["a"]
    found = {"std": column.std(), "var": column.var(), "describe": column.describe()["std"], "table": table.std().iloc[1]}
    numpy = values[:, 0].std(ddof=1, dtype="float64")
    print(f"  {rows:,} rows: mean {column.mean():.2f}, std {found['std']:.2f}, by NumPy {numpy:.2f}; constant columns: {(table.std() == 0).sum()} of 3")
    assert abs(column.mean() - 2) < 0.05 and abs(numpy - 1) < 0.05 and abs(column.astype("float32").std() - numpy) < 1e-3
    for name, value in found.items():
        assert abs(float(value) - numpy) < 0.05 if rows < 65_520 else value == 0, (name, value, "the deviation is right now")
    groups = column.groupby(np.arange(rows) % 2).std()
    assert abs(groups - 1).max() < 0.05
scaled = (table["a"] - table["a"].mean()) / table["a"].std()
print(f"  scaled to mean 0 and deviation 1: {np.isfinite(scaled).mean():.1%} finite")
assert np.isfinite(scaled).mean() < 0.01
PY
