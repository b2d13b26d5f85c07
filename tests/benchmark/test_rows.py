"""Files of rows: what is read is what was written, and what is damaged is known."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradtoken.benchmark.rows import Row, packed, read, read_table, schema_of
from gradtoken.benchmark.seal import LENGTH, MARK, footer, opened

pytest.importorskip("pyarrow")
HOSTILE = [
    "a\nb",
    "a\r\n\tb",
    "\u202eabc é ß 漢字 👩‍🚀 e\u0301",
    'it\'s "quoted" `so`; DROP TABLE rows; --',
    "x" * 1000,
    "../../etc/passwd",
    "C:\\pictures\\1.png",
    "a/b/c.png",
    "",
    " ",
    "-",
    "null",
    "\x00zero",
]
FACTS = {"fingerprint": "abc", "unit": "0-2"}


def older(some):
    """A file as it was written before there were digests."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist([row._asdict() for row in some], schema=schema_of(pa).with_metadata(FACTS))
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def rows(count=40):
    rng = np.random.default_rng(0)
    good = [Row(f"{i}.png", ask, "positive", rng.random(9).tolist()) for i in range(count) for ask in ("label", "x")]
    return [*good, Row("bad", "", "", [], "bad: it is no picture")]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "0.parquet").write_bytes(packed(rows(), FACTS))
    return tmp_path / "0.parquet"


def again(some, facts):
    """What is read of what was written."""
    return read(packed(some, facts))


def test_rows_and_facts_come_back():
    found, facts = again(rows(), FACTS)
    assert found == rows()
    assert FACTS.items() <= facts.items()


def test_the_same_rows_are_the_same_bytes():
    assert packed(rows(), FACTS) == packed(rows(), FACTS)


def test_other_readers_pass_over_the_digest(path):
    from pyarrow import parquet

    assert parquet.read_table(path).num_rows == len(rows())


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_come_back(name):
    some = [Row(name, name, name, [1.0]), Row(name, "", "", [], name)]
    found, facts = again(some, {"fact": "é\n"})
    assert found == some
    assert facts["fact"] == "é\n"


def test_a_name_that_is_not_text_is_written_with_escapes():
    assert again([Row("caf\udce9.png", "label", "positive", [1.0])], {})[0][0].sample == "caf\\udce9.png"


def test_numbers_come_back_bit_by_bit():
    values = [math.inf, -math.inf, 0.1, 5e-324, -0.0, 1 / 3]
    found, _ = again([Row("a", "b", "c", [*values, math.nan]), Row("a", "b", "d", [])], {})
    assert found[0].values[:-1] == values
    assert math.isnan(found[0].values[-1])
    assert found[1].values == []


def test_no_rows():
    assert again([], FACTS)[0] == []


def check(path):
    """A damaged file is refused, or gives what was written all the same."""
    try:
        found, _ = read(path.read_bytes())
    except ValueError:
        return False
    assert found == rows()
    return True


def test_truncated_files_are_refused(path):
    whole = path.read_bytes()
    for length in [0, 1, 3, 4, 8, 11, 12, len(whole) // 3, len(whole) // 2, *range(len(whole) - 12, len(whole))]:
        path.write_bytes(whole[:length])
        assert not check(path)


def test_every_flipped_bit_is_known(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = {*rng.integers(0, len(whole), 400).tolist(), *range(4), *range(len(whole) - 12, len(whole))}
    places |= set(range(footer(whole) - LENGTH, footer(whole)))
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        assert not check(path), place


@pytest.mark.parametrize("columns", [None, [], ["reason"]])
def test_a_digest_that_is_cut_out_is_missed(path, columns):
    plain, had = opened(path.read_bytes())
    assert had
    with pytest.raises(ValueError, match="its digest is damaged"):
        read_table(plain, columns)
    with pytest.raises(ValueError, match="its digest is damaged"):
        read_table(path.read_bytes().replace(MARK, b"x" * len(MARK)), columns)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_never_change_a_number_of_a_file_without_digest(seed, path):
    path.write_bytes(older(rows()))
    whole = path.read_bytes()
    assert check(path)
    rng, refused = np.random.default_rng(seed), 0
    for _ in range(80):
        damaged = bytearray(whole)
        place = int(rng.integers(4, len(whole) - 8))
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        refused += not check(path)
    assert refused > 20


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"\x00" * 4000, b"sample,ask\n" * 300])
def test_what_is_no_table_is_refused(content, path):
    path.write_bytes(content)
    assert not check(path)


def test_a_table_of_something_else_is_refused(path):
    import pyarrow as pa
    from pyarrow import parquet

    for table in ({"sample": ["a"]}, {"x": [1]}, {name: [1] for name in Row._fields}, {}):
        parquet.write_table(pa.table(table), path)
        with pytest.raises(ValueError, match="expected the columns"):
            read(path.read_bytes())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
def test_reading_leaves_no_threads_that_could_disturb_the_end_of_the_process(path):
    code = "import os, sys; from gradtoken.benchmark.rows import read; import pyarrow.parquet; "
    code += "before = os.listdir('/proc/self/task'); read(open(sys.argv[1], 'rb').read()); "
    code += "assert before == os.listdir('/proc/self/task')"
    subprocess.run([sys.executable, "-c", code, path], check=True)
