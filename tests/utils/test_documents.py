"""Small text files: read with bounds."""

import json
import time

import pytest

from ppcls_ext.utils.documents import DocumentError, read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nests deeper than 64 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "nests deeper than 64 levels"),
        ("1" * 400, "beyond 64 bits"),
        (str(2**70), "beyond 64 bits"),
        ("1e999", "out of range"),
        ("[Infinity]", "it holds Infinity"),
        ("NaN", "it holds NaN"),
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1, \0]", "holds null characters"),
    ],
    ids=["deep list", "deep mapping", "400 digits", "2^70", "1e999", "Infinity", "NaN", "empty", "cut", "null"],
)
def test_json_that_no_program_of_ours_writes_is_refused_at_once(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    start = time.perf_counter()
    with pytest.raises(DocumentError, match=rf"record\.json.*{message}"):
        read_json(path)
    assert time.perf_counter() - start < 5  # a hang, not a speed


def test_size_and_encoding_are_checked(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes("花".encode("gbk"))
    with pytest.raises(DocumentError, match="record.json is not UTF-8"):
        read_json(path)
    path.write_text(json.dumps("x" * 1000))
    with pytest.raises(DocumentError, match="more than 1,000 bytes"):
        read_json(path, max_bytes=1000)
    assert read_json(path) == "x" * 1000


@pytest.mark.parametrize("value", [[[], {}, 'a\\"[[[', -(2**63 - 1), 1.5, None, True], {"花": ["]", "}"]}])
def test_ordinary_json_is_read_as_the_standard_library_does(tmp_path, value):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8-sig")
    assert read_json(path) == value


def test_brackets_within_strings_are_not_counted(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(["[" * 1000, "\\" * 3 + "{" * 100]))
    assert read_json(path)[0] == "[" * 1000
