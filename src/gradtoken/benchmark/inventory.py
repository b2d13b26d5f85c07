"""How far a run is, and its rows in one file."""

import os
import uuid
from pathlib import Path
from typing import Any

from gradtoken.benchmark.columns import tables
from gradtoken.benchmark.folder import RunFolder
from gradtoken.errors import BadRun
from gradtoken.models.model import need


def done(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """Units of each method that are there, of how many; a file is not opened, and may be damaged."""
    units = folder.units
    return {v.title: (sum(folder.path(v, unit).exists() for unit in units), len(units)) for v in folder.variants}


def merge(folder: RunFolder, path: Path) -> tuple[int, int]:
    """Write all rows as one Parquet file with a column `method`, unit by unit. Rows written, and units missing."""
    parquet = need("pyarrow.parquet", "benchmark")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    rows, found, writer = 0, 0, None
    try:
        for variant in folder.variants:
            for table in tables(folder, variant):
                table = titled(table, variant.title)
                writer = writer or parquet.ParquetWriter(partial, table.schema, compression="zstd")
                writer.write_table(table)
                rows, found = rows + table.num_rows, found + 1
        if writer is None:
            raise BadRun(f"{folder.root} holds no results yet; go on with the run")
        writer.close()
        os.replace(partial, path)
    except OSError as error:
        raise BadRun(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if writer is not None:
            writer.close()
        partial.unlink(missing_ok=True)
    return rows, len(folder.variants) * len(folder.units) - found


def titled(table: Any, title: str) -> Any:
    """The table with the method before its other columns; the run's fingerprint stays in its header."""
    pa = need("pyarrow", "benchmark")
    titles = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array([title]))
    facts = {k: v for k, v in (table.schema.metadata or {}).items() if k == b"fingerprint"}
    return table.add_column(0, "method", titles).replace_schema_metadata(facts)
