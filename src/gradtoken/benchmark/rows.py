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
    columns = {name: [writable(getattr(row, name)) for row in rows] for name in Row._fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        table = pa.table(columns, schema=schema)
        parquet.write_table(table, partial, compression="zstd", write_page_checksum=True)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def writable(value: Any) -> Any:
    """Names of files may hold bytes that are no text; these are written with escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def read(path: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows and facts of a file. Raises ValueError or OSError for one that is damaged."""
    table = read_table(path)
    facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    return [Row(**row) for row in table.to_pylist()], facts


def read_table(path: Path) -> Any:
    """The rows of a file as an Arrow table, its facts in the schema. Raises ValueError or OSError for a damaged one."""
    pa, parquet = need("pyarrow", "benchmark"), need("pyarrow.parquet", "benchmark")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except pa.ArrowException as error:  # some kinds are neither
        raise ValueError(f"{path} is damaged: {error}") from error
    if not table.schema.equals(schema_of(pa)):
        raise ValueError(f"{path}: expected the columns {', '.join(Row._fields)}, got {', '.join(table.column_names)}")
    table.validate(full=True)
    return table


def schema_of(pa: Any) -> Any:
    """Of all files."""
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {"sample": pa.string(), "ask": text, "metric": text, "values": pa.list_(pa.float64()), "reason": text}
    return pa.schema(list(kinds.items()))
