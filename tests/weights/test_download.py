"""Downloading from a local server that breaks off, refuses, and sends the wrong file."""

import hashlib

import numpy as np
import pytest
from file_server import FileServer, Served

from ppcls_ext.weights import download as module
from ppcls_ext.weights.download import BLOCK, DownloadError, download, mirrored

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with FileServer() as server:
        yield server


def serve(server, **options) -> tuple:
    server.files["/weights.pth"] = Served(CONTENT, **options)
    return f"{server.url}/weights.pth", server.files["/weights.pth"]


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256[:8], SHA256.upper()], ids=["none", "whole", "prefix", "upper"])
def test_a_whole_file(server, tmp_path, sha256):
    url, served = serve(server)
    download(url, tmp_path / "deep" / "weights.pth", sha256)
    assert (tmp_path / "deep" / "weights.pth").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["weights.pth"]
    assert served.requests == [None]


@pytest.mark.parametrize("announces_length", [True, False])
def test_a_broken_connection_goes_on_where_it_broke(server, tmp_path, announces_length):
    """Without an announced length a cut looks like the end: the hash finds it."""
    url, served = serve(server, breaks=[16 * BLOCK, 8 * BLOCK + 5], announces_length=announces_length)
    if not announces_length:
        with pytest.raises(DownloadError, match=f"published is {SHA256}; it was thrown away"):
            download(url, tmp_path / "weights.pth", SHA256)
        assert list(tmp_path.iterdir()) == []
        return
    download(url, tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert served.requests == [None, "bytes=1048576-", "bytes=1572864-"]


def test_a_server_that_knows_no_ranges_sends_all_again(server, tmp_path):
    url, served = serve(server, breaks=[16 * BLOCK], ranges=False)
    download(url, tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert served.requests == [None, "bytes=1048576-"]


def test_what_came_is_kept_for_the_next_process(server, tmp_path):
    url, served = serve(server, breaks=[10 * BLOCK, 0, 0, 0, 0, 0])
    with pytest.raises(DownloadError, match=r"weights.pth: the connection broke \(.*\), 5 times in a row; 655,360 byt"):
        download(url, tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()
    served.breaks.clear()
    download(url, tmp_path / "weights.pth", SHA256)
    assert served.requests[-1] == "bytes=655360-"
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_slow_line_may_break_often_as_long_as_bytes_come(server, tmp_path):
    url, served = serve(server, breaks=[3 * BLOCK] * 14)
    download(url, tmp_path / "weights.pth", SHA256)
    assert len(served.requests) == 15


def test_a_whole_partial_file_is_taken_as_it_is(server, tmp_path):
    url, _ = serve(server)
    (tmp_path / "weights.pth.partial").write_bytes(CONTENT)
    download(url, tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_published_one_begins_again(server, tmp_path):
    url, served = serve(server)
    (tmp_path / "weights.pth.partial").write_bytes(CONTENT + b"x")
    download(url, tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert served.requests == ["bytes=3000001-", None]


def test_a_wrong_hash_is_thrown_away(server, tmp_path):
    url, _ = serve(server)
    with pytest.raises(DownloadError, match=f"SHA-256 {SHA256}, published is {'0' * 64}; it was thrown away"):
        download(url, tmp_path / "weights.pth", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_not_found_is_final(server, tmp_path):
    with pytest.raises(DownloadError, match=rf"{server.url}/gone.pth: the server answers 404 Not Found"):
        download(f"{server.url}/gone.pth", tmp_path / "gone.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    url, served = serve(server, statuses=[503, 429])
    download(url, tmp_path / "weights.pth", SHA256)
    assert len(served.requests) == 3
    url, served = serve(server, statuses=[503] * 5)
    with pytest.raises(DownloadError, match="the server answers 503, 5 times in a row$"):
        download(url, tmp_path / "other.pth")


def test_no_server_at_all(server, tmp_path):
    with FileServer() as gone:
        url = f"{gone.url}/weights.pth"
    with pytest.raises(DownloadError, match="the connection broke .*refused.*5 times in a row$"):
        download(url, tmp_path / "weights.pth")


def test_an_impossible_address(tmp_path):
    with pytest.raises(DownloadError, match="nowhere"):
        download("nowhere", tmp_path / "weights.pth")


# ---- mirrors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "url", "fetched"),
    [
        ("", "https://a.example/x/w.pth", "https://a.example/x/w.pth"),
        ("https://m.example/files/", "https://a.example/x/w.pth?y=1", "https://m.example/files/a.example/x/w.pth?y=1"),
        ("https://a.example=https://m.example/a", "https://a.example/x/w.pth", "https://m.example/a/x/w.pth"),
        ("https://a.example=https://m.example/a", "https://b.example/w.pth", "https://b.example/w.pth"),
        (
            "https://a.example=https://m.example/a https://a.example/x=http://n.example",
            "https://a.example/x/w.pth",
            "http://n.example/w.pth",
        ),
        (
            "https://m.example https://a.example/=https://proxy.example/?u=https://a.example/",
            "https://a.example/w.pth",
            "https://proxy.example/?u=https://a.example/w.pth",
        ),
    ],
)
def test_addresses_of_a_mirror(monkeypatch, setting, url, fetched):
    monkeypatch.setenv("PPCLS_EXT_MIRROR", setting)
    assert mirrored(url) == fetched


@pytest.mark.parametrize("setting", ["m.example", "https://a.example=m.example", "https://m.example ftp://x"])
def test_a_mirror_that_is_none(monkeypatch, tmp_path, setting):
    monkeypatch.setenv("PPCLS_EXT_MIRROR", setting)
    with pytest.raises(DownloadError, match="PPCLS_EXT_MIRROR holds '.*'; expected https://<mirror>, or pairs"):
        download("https://a.example/w.pth", tmp_path / "w.pth")


def test_a_file_from_a_mirror_has_the_published_hash(server, tmp_path, monkeypatch):
    server.files["/m/host.example/weights.pth"] = Served(CONTENT)
    monkeypatch.setenv("PPCLS_EXT_MIRROR", f"{server.url}/m")
    download("https://host.example/weights.pth", tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=rf"{server.url}/m/host.example/weights.pth: .*published is 0{{8}}"):
        download("https://host.example/weights.pth", tmp_path / "other.pth", "00000000")
