#!/usr/bin/env bash
# What: a table partitioned by a text column of class names comes back with other names, from the library that wrote it.
#   pyarrow: classes "007" and "010" return as 7 and 10, "01" and "1" as one class 1 (pandas.read_parquet raises
#   "Categorical categories must be unique" there). Polars reads besides "1e3" as 1000.0, "true" and "false" as
#   booleans and "2024-01-01" as a date. The type depends on all folders together: beside a class "cat", "007" stays.
# Why it surprises: the column is text in the table that is written, every file in the folders has a schema, and the
#   same names in a plain column survive. A class more or less changes the type of the others.
# Who is hurt: feature tables partitioned by label or split (the "class folder" layout of Parquet): labels no longer
#   join with the images' folders, classes merge.
# Instead: name the type when reading (pyarrow.dataset.partitioning(schema, flavor="hive"); hive_schema= in Polars), or
#   keep the label as a plain column beside the partition.
# Source: pyarrow documentation, write_to_dataset: "Column names by which to partition the dataset. Columns are
#   partitioned in the order they are given", and no word of types; Polars, scan_parquet, hive_partitioning: "Infer
#   statistics and schema from hive partitioned URL".
# Guessed beforehand: integers inferred by pyarrow (right), text kept where two names would be one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import datetime

import pandas as pd, polars as pl, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq

print("pyarrow", pa.__version__, "pandas", pd.__version__, "polars", pl.__version__)


def with_pandas(folder):
    try:
        return pd.read_parquet(folder).label.tolist()
    except ValueError as error:
        return str(error)


day = datetime.date
expected = {  # names written: read by pyarrow, by pandas, by Polars
    ("007", "010"): ([7, 10], [7, 10], [7, 10]),
    ("007", "cat"): (["007", "cat"], ["007", "cat"], ["007", "cat"]),
    ("01", "1"): ([1, 1], "Categorical categories must be unique", [1, 1]),
    ("1e3", "2"): (["1e3", "2"], ["1e3", "2"], [1000.0, 2.0]),
    ("false", "true"): (["false", "true"], ["false", "true"], [False, True]),
    ("2024-01-01", "2024-02-01"): (["2024-01-01", "2024-02-01"],) * 2 + ([day(2024, 1, 1), day(2024, 2, 1)],),
}
text = ds.partitioning(pa.schema([("label", pa.string())]), flavor="hive")
for number, (names, outcome) in enumerate(expected.items()):
    folder = f"table{number}"
    table = pa.table({"label": pa.array(names, pa.string()), "x": [0.0, 1.0]})
    pq.write_to_dataset(table, folder, partition_cols=["label"])
    found = (
        pq.read_table(folder).column("label").to_pylist(),
        with_pandas(folder),
        pl.scan_parquet(folder, hive_partitioning=True).collect()["label"].to_list(),
    )
    print(f"{names}: pyarrow {found[0]}, pandas {found[1]}, Polars {found[2]}")
    assert [list(map(str, value)) if isinstance(value, list) else value for value in found] == [
        list(map(str, value)) if isinstance(value, list) else value for value in outcome
    ], found
    assert ds.dataset(folder, partitioning=text).to_table().column("label").to_pylist() == list(names)
    plain = pl.scan_parquet(folder, hive_schema={"label": pl.String}).collect()["label"].to_list()
    assert plain == list(names)
PY
