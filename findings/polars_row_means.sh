#!/usr/bin/env bash
# What: Polars' mean_horizontal of whole numbers adds in the type of the columns: the mean of five grades of 200 in uint8 is 46.4, that of
#   five of 100 in int8 is -2.4. Of random uint8 in five columns 99 % of the means are wrong. dot of two such columns wraps each
#   of its products.
# Why it surprises: the result is a float, and everything beside it is right: mean and sum of a column, cum_sum, rolling_mean, a mean by
#   group, list.mean and arr.mean of the same five numbers; sum is documented to widen small types, dot too returns an int64.
# Who is hurt: means over graders, over eight-bit scores of an ensemble or over channels, which are kept as uint8 to be small; int16
#   wraps from 32,767 on, int32 with counts of bytes or nanoseconds. Every value is plausible, and the ranking by them is noise.
# Instead: pl.mean_horizontal(pl.all().cast(pl.Float64)), or concat_list(...).list.mean() (both checked below).
# Source: https://docs.pola.rs/api/python/stable/reference/expressions/api/polars.mean_horizontal.html ("Compute the mean of all values
#   horizontally across columns"); pola-rs/polars#21515 has sum_horizontal, whose type at least shows what it does.
# Guessed beforehand: all of them widen, or none does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check polars==2.1.0 numpy==2.4.6
venv/bin/python -W error - <<'PY'
import numpy as np, polars as pl

print("Polars", pl.__version__)
random = np.random.default_rng(0)
every = pl.all()
for kind, low, high in ((pl.UInt8, 0, 255), (pl.Int8, 0, 100), (pl.UInt16, 0, 65535), (pl.Int32, 0, 2**31 - 1), (pl.Float32, 0, 1)):
    numbers = random.uniform(low, high, (1000, 5))
    numbers = numbers.astype("float32") if kind == pl.Float32 else numbers.astype("int64")
    table = pl.DataFrame({f"grader {k}": pl.Series(numbers[:, k]).cast(kind) for k in range(5)})
    right = numbers.astype(float).mean(1)
    means = {
        "mean_horizontal": table.select(pl.mean_horizontal(every)),
        "streaming": table.lazy().select(pl.mean_horizontal(every)).collect(engine="streaming"),
        "list.mean": table.select(pl.concat_list(every).list.mean()),
        "cast first": table.select(pl.mean_horizontal(every.cast(pl.Float64))),
    }
    wrong = {name: np.mean(np.abs(found.to_series().to_numpy() - right) > 1e-3 * max(high, 1) * 1e-2).item() for name, found in means.items()}
    first, second = table["grader 0"], table["grader 1"]
    order = np.corrcoef(np.argsort(np.argsort(means["mean_horizontal"].to_series().to_numpy())), np.argsort(np.argsort(right)))[0, 1]
    product = first.dot(second) / np.dot(*numbers[:, :2].astype(float).T)
    print(
        f"  {kind}: row 0 {table.row(0)}, mean {means['mean_horizontal'].item(0, 0):.4g} (right: {right[0]:.4g});",
        ", ".join(f"{name} wrong in {share:.0%}" for name, share in wrong.items()) + f"; rank correlation {order:.2f}; dot {product:.3f} times what it should be",
    )
    assert np.allclose(table.mean().row(0), numbers.mean(0)), "means of columns"
    assert wrong["list.mean"] == wrong["cast first"] == 0
    if kind == pl.Float32:
        assert wrong["mean_horizontal"] == 0 and abs(product - 1) < 1e-3
    else:
        assert wrong["mean_horizontal"] > 0.9 and wrong["streaming"] > 0.9, "rows are averaged rightly now"
        assert product < 0.5, "dot widens its products now"
PY
