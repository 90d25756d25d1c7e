"""Results are written as they come."""

import json
import os

import pytest

from ppcls_ext.engine.deploy.result_file import ResultFile

RESULTS = [{"file_name": f"{number}.png", "label_names": ["向日葵"]} for number in range(3)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_and_lines_hold_all_results(tmp_path, count):
    for name in ("out.json", "out.jsonl", "out"):
        assert list(ResultFile(tmp_path / name).through(RESULTS[:count])) == RESULTS[:count]
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == RESULTS[:count]
    assert (tmp_path / "out").read_bytes() == (tmp_path / "out.json").read_bytes()
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == RESULTS[:count]
    assert sorted(os.listdir(tmp_path)) == ["out", "out.json", "out.jsonl"]


def test_what_was_done_before_a_failure_is_kept_beside_the_earlier_file(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("earlier\n")

    def failing():
        yield from RESULTS[:2]
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        list(ResultFile(path).through(failing()))
    assert path.read_text() == "earlier\n"
    kept = (tmp_path / "out.jsonl.part").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in kept] == RESULTS[:2]


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_a_name_that_is_not_utf_8_comes_back(tmp_path, name):
    result = {"file_name": os.fsdecode(b"\xe9t\xe9.png")}
    list(ResultFile(tmp_path / name).through([result]))
    text = (tmp_path / name).read_text(encoding="utf-8")
    read = json.loads(text) if name == "out.jsonl" else json.loads(text)[0]
    assert os.fsencode(read["file_name"]) == b"\xe9t\xe9.png"


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        ResultFile(tmp_path / "file" / "out.json")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        ResultFile(tmp_path)
