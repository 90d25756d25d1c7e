"""Lists and label files as people write them: encodings, line ends, delimiters, and what is refused."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from ppcls_ext.data import LabelFileError
from ppcls_ext.data.label_list import read_image_list, read_label_list
from ppcls_ext.data.label_names import read_class_id_map

pytestmark = pytest.mark.compat

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("between", [" ", "\t", ",", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_delimiter_and_line_end(tmp_path, encoding, between, end):
    path = tmp_path / "list.txt"
    path.write_bytes(
        end.join(f"{name}{between}{i}" for i, name in enumerate(["花/图 1.jpg", "b.jpg"])).encode(encoding)
    )
    names, labels = read_label_list(path)
    assert names == ["花/图 1.jpg", "b.jpg"]
    np.testing.assert_array_equal(labels, [0, 1])
    assert read_image_list(path, tmp_path) == [tmp_path / "花/图 1.jpg", tmp_path / "b.jpg"]
    labels = tmp_path / "labels.txt"
    labels.write_bytes(
        end.join(f"{i}{between}{name}" for i, name in enumerate(["向日葵", "red rose"])).encode(encoding)
    )
    assert read_class_id_map(labels) == ["向日葵", "red rose"]


def test_another_encoding_is_named_in_the_log(tmp_path, caplog):
    path = tmp_path / "list.txt"
    # "图" in GBK is UTF-8 too, by chance, for another letter.
    path.write_bytes("向日葵/图.jpg 0\nred rose/图.jpg 1\ntulip/图.jpg 2\n".encode("gbk"))
    with caplog.at_level(logging.INFO, "ppcls_ext"):
        assert read_label_list(path)[0] == ["向日葵/图.jpg", "red rose/图.jpg", "tulip/图.jpg"]
    assert f"{path} is read as GBK" in caplog.text


def test_a_file_name_that_is_not_text_is_found(tmp_path):
    """On Linux a name is bytes. ``caf\\xe9`` is Latin-1; the second is GBK, as a name and in the list."""
    raw = [b"caf\xe9 1.jpg", "图.jpg".encode("gbk")]
    for name in raw:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    path = tmp_path / "list.txt"
    for name in raw:
        path.write_bytes(name + b" 3\n")
        names, _ = read_label_list(path, image_root=tmp_path)
        assert [os.fsencode(name) for name in names] == [name]
        assert [os.fsencode(image.name) for image in read_image_list(path, tmp_path)] == [name]
    path.write_bytes(b"gon\xe9.jpg 0\n")
    with pytest.raises(LabelFileError, match=r"list.txt:1: expected UTF-8 text, got b'gon"):
        read_label_list(path, image_root=tmp_path)


@pytest.mark.parametrize("form", ["{} {}", "{},{}", "{}: {}", "{}:{}", "{}\t{}", "{}，{}"])
def test_forms_of_a_label_file(tmp_path, form):
    path = tmp_path / "labels.txt"
    names = ["shark, man-eater", "a:b", "red rose"]
    path.write_text("\n".join(form.format(*pair) for pair in enumerate(names)), encoding="utf-8")
    assert read_class_id_map(path) == names


def test_names_alone_are_read_and_told(tmp_path, caplog):
    path = tmp_path / "labels.txt"
    path.write_text("crane\nred rose\ncrane\n")
    with caplog.at_level(logging.INFO, "ppcls_ext"):
        assert read_class_id_map(path) == ["crane", "red rose", "crane"]
    assert "names without ids: its 3 lines are the classes 0 to 2" in caplog.text
    path.write_text("0\n1\n2\n")
    assert read_class_id_map(path) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rose\n1 tulip\n", ":1: expected"),
        (b"1\n0\n", ":1: expected"),
        (b"rose 0\ntulip 1\n", ":1: expected"),
        (b"0 a\n4000000000000 b\n", ":2: expected"),
        (b"0 a\n400000000 b\n", "no name for class id 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...; ids start at 0"),
        (b"0 a\n0 b\n", "id 0 is there twice"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file"),
        (b"0 caf\xe9\n", ":1: expected UTF-8"),
        (b"", "holds no label"),
    ],
)
def test_a_wrong_label_file_is_refused(tmp_path, content, message):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelFileError, match=message):
        read_class_id_map(path)


def test_what_is_no_regular_file_is_named(tmp_path):
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    for path, kind in [(pipe, "a named pipe"), ("/dev/zero", "a device"), (tmp_path, "a folder")]:
        for read in (read_label_list, read_class_id_map, lambda path: read_image_list(path, tmp_path)):
            with pytest.raises(LabelFileError, match=f"is {kind}; expected a regular file"):
                read(path)
    for read in (read_label_list, read_class_id_map):
        with pytest.raises(FileNotFoundError, match="nowhere.txt' does not exist"):
            read(tmp_path / "nowhere.txt")


def test_a_listed_name_may_end_in_a_number_or_hold_a_comma(tmp_path):
    for name in ("photo 1", "a,b 2.png"):
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / "list.txt"
    path.write_text("photo 1\na,b 2.png\na,b 2.png,7\nc.png 0\n")
    assert [image.name for image in read_image_list(path, tmp_path)] == ["photo 1", "a,b 2.png", "a,b 2.png", "c.png"]
