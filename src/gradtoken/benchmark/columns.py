"""The rows of a run as arrays, without a Python object for each, and as one file."""

import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradtoken.benchmark.folder import RunFolder
from gradtoken.benchmark.plan import Variant
from gradtoken.errors import (
    BadModel,
    BadRun,
    BadTarget,
    GradTokenError,
    MissingExtra,
    NoAttention,
    NoBlocks,
    NoGrid,
    NoRule,
)
from gradtoken.models.model import need
from gradtoken.protocols.protocol import Array

LEFT_OUT = "left out"  # how the reason begins where a protocol does not use a sample that could be used
GROUP = 2**16  # rows that are merged at once
REFUSALS = tuple(  # how the reason begins where a method does not fit the model, whatever the sample
    f"{kind.__name__}: "
    for kind in (BadModel, BadTarget, GradTokenError, MissingExtra, NoAttention, NoBlocks, NoGrid, NoRule)
)


@dataclass(frozen=True, eq=False)
class Measured:
    """All values of one method and ask. ids: samples that have them. values: by metric, (samples, n)."""

    title: str
    ask: str
    ids: tuple[str, ...]
    values: dict[str, Array]

    def among(self, ids: Set[str]) -> "Measured":
        """The values of some samples."""
        kept = [i for i, name in enumerate(self.ids) if name in ids]
        values = {name: values[kept] for name, values in self.values.items()}
        return replace(self, ids=tuple(self.ids[i] for i in kept), values=values)


@dataclass(frozen=True, eq=False)
class Column:
    """What a run holds of one method: values for each ask, and why other samples have none.

    units: how many files there are, of how many.
    """

    variant: Variant
    measured: tuple[Measured, ...]
    reasons: dict[str, str]
    units: tuple[int, int]

    @property
    def counted(self) -> Counter[str]:
        """How many samples each reason has; one that names the sample is the same reason for all."""
        return Counter(reason.removeprefix(f"{sample}: ") for sample, reason in self.reasons.items())

    @property
    def failed(self) -> int:
        """Samples without values that the protocol did not mean to leave out; see `unexplained`."""
        return unexplained(self.reasons.values(), bool(self.measured))

    @property
    def ids(self) -> set[str]:
        """Every sample that was tried."""
        return {id for one in self.measured for id in one.ids} | set(self.reasons)

    def among(self, ids: Set[str]) -> "Column":
        """What it holds of some samples; units stay those of all."""
        measured = tuple(one.among(ids) for one in self.measured)
        reasons = {id: reason for id, reason in self.reasons.items() if id in ids}
        return replace(self, measured=tuple(one for one in measured if one.ids), reasons=reasons)


def unexplained(reasons: Iterable[str], measured: bool) -> int:
    """How many reasons are failures, as refusals of a method that has no values for any sample are not."""
    meant = (LEFT_OUT,) if measured else (LEFT_OUT, *REFUSALS)
    return sum(not reason.startswith(meant) for reason in reasons)


def tables(folder: RunFolder, variant: Variant) -> Iterator[Any]:
    """The files of one method, one after the other, that are whole and of this run."""
    for unit in folder.units:
        table = folder.table(variant, unit)
        if table is not None:
            yield table


def column_of(folder: RunFolder, variant: Variant) -> Column:
    """Everything that a run holds of one method."""
    pa = need("pyarrow", "benchmark")
    found = list(tables(folder, variant))
    units = (len(found), len(folder.units))
    if not found:
        return Column(variant, (), {}, units)
    table = pa.concat_tables(found).unify_dictionaries().combine_chunks()
    words = {name: Words.of(table, name) for name in ("ask", "metric", "reason")}
    empty = words["reason"].number("")
    good = words["reason"].codes == empty
    bad = np.flatnonzero(~good)
    reasons = dict(zip(table.column("sample").take(bad).to_pylist(), words["reason"].at(bad), strict=True))
    asks = (ask for ask in words["ask"].words if (good & (words["ask"].codes == words["ask"].number(ask))).any())
    measured = tuple(of_ask(variant.title, ask, table, words) for ask in asks)
    return Column(variant, tuple(one for one in measured if one.ids), reasons, units)


@dataclass(frozen=True, eq=False)
class Words:
    """A column of few different words, as numbers of them."""

    words: list[str]
    codes: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, table: Any, name: str) -> "Words":
        """A column of a table in one piece."""
        (chunk,) = table.column(name).chunks
        return cls(chunk.dictionary.to_pylist(), chunk.indices.to_numpy(zero_copy_only=False))

    def number(self, word: str) -> int:
        """-1 for one that does not occur."""
        return self.words.index(word) if word in self.words else -1

    def at(self, places: Any) -> list[str]:
        """The words at some places."""
        return [self.words[code] for code in self.codes[places]]


def of_ask(title: str, ask: str, table: Any, words: dict[str, Words]) -> Measured:
    """The values of one ask, samples in the order of their names."""
    mine = (words["ask"].codes == words["ask"].number(ask)) & (words["reason"].codes == words["reason"].number(""))
    values, known = dict[str, Array](), None
    for code in np.unique(words["metric"].codes[mine]):
        places = np.flatnonzero(mine & (words["metric"].codes == code))
        ids = np.array(table.column("sample").take(places).to_pylist())
        order = np.argsort(ids, kind="stable")
        ids, name = ids[order], words["metric"].words[code]
        if known is not None and not np.array_equal(known, ids):
            raise BadRun(f"{title}: {name!r} is of other samples than the metrics before it; make the run again")
        known, values[name] = ids, block(table.column("values").take(places), f"{title}: {name!r}")[order]
    return Measured(title, ask, () if known is None else tuple(known.tolist()), values)


def block(lists: Any, name: str) -> Array:
    """Lists of one length as (samples, n)."""
    lists = lists.combine_chunks()
    lengths = np.unique(lists.value_lengths())
    if len(lengths) != 1:
        raise BadRun(f"{name} has {lengths.tolist()} values, another number for other samples; make the run again")
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, lengths[0])


def merge(folder: RunFolder, path: Path) -> tuple[int, int]:
    """Write all rows as one Parquet file with a column `method`, a group of rows at a time. Rows, and units missing."""
    parquet = need("pyarrow.parquet", "benchmark")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    found, rows, writer = Counter[str](), 0, None
    try:
        for table in in_groups(folder, found):
            writer = writer or parquet.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
            rows += table.num_rows
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
    return rows, len(folder.variants) * len(folder.units) - found.total()


def in_groups(folder: RunFolder, found: Counter[str]) -> Iterator[Any]:
    """All rows, as tables of about GROUP rows of one method. found: counts the files."""
    pa = need("pyarrow", "benchmark")
    for variant in folder.variants:
        group, size = list[Any](), 0
        for table in tables(folder, variant):
            found[variant.key] += 1
            group.append(titled(table, variant.title))
            size += table.num_rows
            if size >= GROUP:
                yield pa.concat_tables(group).unify_dictionaries().combine_chunks()
                group, size = [], 0
        if group:
            yield pa.concat_tables(group).unify_dictionaries().combine_chunks()


def titled(table: Any, title: str) -> Any:
    """The table with the method before its other columns; the run's fingerprint stays in its header."""
    pa = need("pyarrow", "benchmark")
    titles = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array([title]))
    facts = {k: v for k, v in (table.schema.metadata or {}).items() if k == b"fingerprint"}
    return table.add_column(0, "method", titles).replace_schema_metadata(facts)
