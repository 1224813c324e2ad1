from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detox.data.jsonl import read_jsonl, write_jsonl
from detox.errors import DataError, MissingData, OutputError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(rows=ROWS, name=st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_what_is_written_is_read_back(tmp_path, rows, name):
    path = write_jsonl(tmp_path / name, rows)
    assert list(read_jsonl(path)) == list(enumerate(rows, start=1))


def test_gzip_is_told_by_its_bytes_and_made_without_a_time_stamp(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl.gz", [{"a": 1}]).read_bytes()
    assert first == write_jsonl(tmp_path / "b.jsonl.gz", [{"a": 1}]).read_bytes()
    (tmp_path / "misnamed.jsonl").write_bytes(first)
    assert list(read_jsonl(tmp_path / "misnamed.jsonl")) == [(1, {"a": 1})]


def test_blank_lines_count_and_a_byte_order_mark_does_not_matter(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \n{"a": 2}')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"a": 1', "not JSON"),
        (b"[1, 2]", "a JSON list"),
        (b'"text"', "a JSON str"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": "\\ud83d"}', "a lone surrogate U+D83D at offset 0"),
        (b'{"a": ["ok", {"b": "x\\u0000"}]}', "a NUL character at offset 1"),
        (b'{"\\udc00": 1}', "a lone surrogate U+DC00"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'{"a": "\x00"}', "not JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, line, says):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"a": "\\ud83d\\ude00"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"^bad\.jsonl:2: ") as caught:
        list(read_jsonl(path))
    assert says in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [-4, 15])
def test_a_truncated_gzip_file_is_an_error(tmp_path, keep):
    whole = gzip.compress("".join(json.dumps({"a": n}) + "\n" for n in range(2000)).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:keep])
    with pytest.raises(DataError, match=r"^cut\.jsonl\.gz:\d+: damaged gzip"):
        list(read_jsonl(tmp_path / "cut.jsonl.gz"))


def test_a_missing_file_and_a_directory(tmp_path):
    with pytest.raises(MissingData, match="no file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="cannot read"):
        list(read_jsonl(tmp_path))


@pytest.mark.parametrize("value", ["x\0", "\ud800", float("nan"), float("inf")])
def test_nothing_is_written_that_could_not_be_read(tmp_path, value):
    target = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"^out\.jsonl:2: "):
        write_jsonl(target, [{"a": "fine"}, {"a": value}])
    assert not target.exists()


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_jsonl(tmp_path / "file" / "out.jsonl", [])
