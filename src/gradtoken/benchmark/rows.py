"""What is measured, as rows: one for each sample, method, ask and metric; and their files, which tell damage."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradtoken.benchmark.seal import opened, sealed
from gradtoken.models.model import need

CRASHED = "crashed"  # how the reason begins where an error was not foreseen
SEALED = "sealed"  # a fact of every file with a digest: without it, a damaged mark would look like none


class Row(NamedTuple):
    """values: of the metric, or none, with the reason why there are none."""

    sample: str
    ask: str
    metric: str
    values: list[float]
    reason: str = ""


def packed(rows: Sequence[Row], facts: dict[str, str]) -> bytes:
    """The content of one file. facts: kept in its header."""
    pa, parquet = need("pyarrow", "benchmark"), need("pyarrow.parquet", "benchmark")
    schema = schema_of(pa).with_metadata({**facts, SEALED: "sha256"})
    columns = {name: [writable(getattr(row, name)) for row in rows] for name in Row._fields}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns, schema=schema), sink, compression="zstd", write_page_checksum=True)
    return sealed(sink.getvalue().to_pybytes())


def writable(value: Any) -> Any:
    """Names of files may hold bytes that are no text; these are written with escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def read(content: bytes) -> tuple[list[Row], dict[str, str]]:
    """The rows and facts of a file. Raises ValueError for one that is damaged."""
    table = read_table(content)
    return [Row(**row) for row in table.to_pylist()], facts_of(table.schema)


def facts_of(schema: Any) -> dict[str, str]:
    """What the header of a file says."""
    return {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}


def read_table(content: bytes, columns: list[str] | None = None) -> Any:
    """The rows of a file as an Arrow table, its facts in the schema. Raises ValueError for a damaged one.

    columns: only these; with none of them a file that has a digest is checked without reading its rows.
    """
    pa, parquet = need("pyarrow", "benchmark"), need("pyarrow.parquet", "benchmark")
    plain, has_digest = opened(content)
    try:
        with parquet.ParquetFile(pa.BufferReader(plain), page_checksum_verification=True) as file:
            schema = file.schema_arrow
            if not schema.equals(schema_of(pa)):
                raise ValueError(f"expected the columns {', '.join(Row._fields)}, got {', '.join(schema.names)}")
            if (SEALED in facts_of(schema)) != has_digest:
                raise ValueError("its digest is damaged")
            # Arrow's threads now and then abort a process that ends just after it has read a small file
            table = file.read(columns if has_digest else None, use_threads=False)
    except (pa.ArrowException, OSError) as error:  # some kinds are no ValueError
        raise ValueError(str(error)) from error
    table.validate(full=True)
    return table if columns is None else table.select(columns)


def schema_of(pa: Any) -> Any:
    """Of all files."""
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {"sample": pa.string(), "ask": text, "metric": text, "values": pa.list_(pa.float64()), "reason": text}
    return pa.schema(list(kinds.items()))
