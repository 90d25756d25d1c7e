"""Only regular files are opened; whatever else a path may be is named at once."""

import os
import socket

import pytest

from ppcls_ext.utils.files import NotRegularFileError, check_regular, open_regular, sha256_of

pytestmark = pytest.mark.compat


@pytest.fixture
def special(tmp_path):
    """Return ``make(kind)``: the path of something that is no regular file."""
    sockets = []

    def make(kind):
        path = tmp_path / kind.replace(" ", "_")
        if kind == "a folder":
            path.mkdir()
        elif kind == "a named pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[0].bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        return path

    yield make
    for each in sockets:
        each.close()


@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a socket", "a device"])
@pytest.mark.parametrize("read", [check_regular, open_regular, sha256_of])
def test_what_is_no_regular_file_is_named_and_never_opened(special, kind, read):
    path = special(kind)
    with pytest.raises(NotRegularFileError) as error:
        read(path)
    assert str(error.value) == f"{path} is {kind}; expected a regular file"


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("ppcls_ext.utils.files.check_regular", lambda path: path)
    with pytest.raises(NotRegularFileError, match="pipe is a named pipe"):
        open_regular(tmp_path / "pipe")


def test_regular_files_and_links_to_them(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert check_regular(tmp_path / name) == tmp_path / name
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
