"""What is measured, as rows: one for each sample, method, ask and metric; and files that are whole or absent."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gradtoken.models.model import need


class Row(NamedTuple):
    """values: of the metric, or none, with the reason why there are none."""

    sample: str
    ask: str
    metric: str
    values: list[float]
    reason: str = ""


def write(path: Path, rows: Sequence[Row], facts: dict[str, str]) -> None:
    """One file, moved into place when it is whole. facts: kept in its header."""
    pa, parquet = need("pyarrow", "benchmark"), need("pyarrow.parquet", "benchmark")
    schema = schema_of(pa).with_metadata(facts)
    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        parquet.write_table(pa.table(columns, schema=schema), partial, compression="zstd")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows and facts of a file. Raises ValueError or OSError for one that is damaged."""
    parquet = need("pyarrow.parquet", "benchmark")
    table = parquet.read_table(path, partitioning=None)
    facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    return [Row(**row) for row in table.to_pylist()], facts


def schema_of(pa: Any) -> Any:
    """Of all files."""
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {"sample": pa.string(), "ask": text, "metric": text, "values": pa.list_(pa.float64()), "reason": text}
    return pa.schema(list(kinds.items()))
