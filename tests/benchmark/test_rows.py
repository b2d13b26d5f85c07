"""Files of rows: what is read is what was written, and what is damaged is known."""

import math

import numpy as np
import pytest

from gradtoken.benchmark.rows import Row, read, write

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


def rows(count=40):
    rng = np.random.default_rng(0)
    good = [Row(f"{i}.png", ask, "positive", rng.random(9).tolist()) for i in range(count) for ask in ("label", "x")]
    return [*good, Row("bad", "", "", [], "bad: it is no picture")]


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "rows" / "0.parquet", rows(), FACTS)
    return tmp_path / "rows" / "0.parquet"


def test_rows_and_facts_come_back(path):
    found, facts = read(path)
    assert found == rows()
    assert FACTS.items() <= facts.items()
    assert [one.name for one in path.parent.iterdir()] == ["0.parquet"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_come_back(name, tmp_path):
    some = [Row(name, name, name, [1.0]), Row(name, "", "", [], name)]
    write(tmp_path / "f", some, {"fact": "é\n"})
    assert read(tmp_path / "f")[0] == some
    assert read(tmp_path / "f")[1]["fact"] == "é\n"


def test_a_name_that_is_not_text_is_written_with_escapes(tmp_path):
    write(tmp_path / "f", [Row("caf\udce9.png", "label", "positive", [1.0])], {})
    assert read(tmp_path / "f")[0][0].sample == "caf\\udce9.png"


def test_numbers_come_back_bit_by_bit(tmp_path):
    values = [math.inf, -math.inf, 0.1, 5e-324, -0.0, 1 / 3]
    write(tmp_path / "f", [Row("a", "b", "c", [*values, math.nan]), Row("a", "b", "d", [])], {})
    found = read(tmp_path / "f")[0]
    assert found[0].values[:-1] == values
    assert math.isnan(found[0].values[-1])
    assert found[1].values == []


def test_no_rows(tmp_path):
    write(tmp_path / "f", [], FACTS)
    assert read(tmp_path / "f")[0] == []


def check(path):
    """A damaged file is refused, or gives what was written all the same."""
    try:
        found, _ = read(path)
    except (OSError, ValueError):
        return False
    assert found == rows()
    return True


def test_truncated_files_are_refused(path):
    whole = path.read_bytes()
    for length in [0, 1, 3, 4, 8, 11, 12, len(whole) // 3, len(whole) // 2, *range(len(whole) - 12, len(whole))]:
        path.write_bytes(whole[:length])
        assert not check(path)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_never_change_a_number(seed, path):
    whole = path.read_bytes()
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
            read(path)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises((OSError, ValueError), match=r"."):
        read(tmp_path / "f")


def test_nothing_is_left_where_writing_fails(tmp_path):
    write(tmp_path / "f", rows(), FACTS)
    with pytest.raises(Exception, match=r"."):
        write(tmp_path / "f", [Row("a", "b", "c", ["no number"])], FACTS)
    assert [one.name for one in tmp_path.iterdir()] == ["f"]
    assert read(tmp_path / "f")[0] == rows()
