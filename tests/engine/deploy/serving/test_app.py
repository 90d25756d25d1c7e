"""The application around a model that fails, the limits, and what keeps the service from starting."""

import asyncio
import socket

import numpy as np
import pytest
from fastapi.testclient import TestClient

from ppcls_ext import cli
from ppcls_ext.engine.deploy.predictor import Predictor
from ppcls_ext.engine.deploy.serving import requirements
from ppcls_ext.engine.deploy.serving.app import create_app
from ppcls_ext.engine.deploy.serving.classifier import Classifier
from ppcls_ext.engine.deploy.serving.errors import ServingError
from ppcls_ext.engine.deploy.serving.limits import Limits
from ppcls_ext.engine.deploy.serving.server import listen
from ppcls_ext.engine.deploy.serving.settings import Settings, share_of_cores


class Fragile(Predictor):
    """Its output is not finite for the image ``bad``, or for all."""

    bad, broken = None, False

    def score(self, images):
        scores = super().score(images)
        hit = [self.broken or (self.bad is not None and np.allclose(image, self.bad)) for image in images]
        return np.where(np.array(hit)[:, None], np.nan, scores)


@pytest.fixture
def fragile(exported, photos, monkeypatch):
    """(client, predictor, files) of a service whose model can be made to fail."""
    monkeypatch.setattr("ppcls_ext.engine.deploy.serving.settings.Predictor", Fragile)
    settings = Settings(str(exported.folder))
    classifier = Classifier(settings)
    with TestClient(create_app(settings, classifier)) as client:
        yield client, classifier._predictor, [("images", photo) for photo in photos[:3]]


def test_an_image_that_the_model_fails_on_does_not_fail_its_neighbours(fragile, photos):
    client, predictor, files = fragile
    whole = client.post("/predict", files=files).json()["results"]
    predictor.bad = predictor._preprocess(photos[1][1])
    response = client.post("/predict", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert [first, third] == [whole[0], whole[2]]
    assert second["error"] == "the model failed on this image; the service's log says why"
    assert client.post("/predict", files=files[1:2]).status_code == 500
    assert client.get("/health").status_code == 200  # the model still answers


def test_health_follows_the_model(fragile):
    client, predictor, files = fragile
    assert client.get("/health").json()["status"] == "ready"
    predictor.broken = True
    assert client.post("/predict", files=files).status_code == 500
    response = client.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "failing" and "not finite" in response.json()["reason"]
    predictor.broken = False
    assert client.post("/predict", files=files).status_code == 200
    assert client.get("/health").status_code == 200


def test_a_model_that_cannot_classify_anything_does_not_start(exported, monkeypatch):
    monkeypatch.setattr("ppcls_ext.engine.deploy.serving.settings.Predictor", Fragile)
    monkeypatch.setattr(Fragile, "broken", True)
    with pytest.raises(ValueError, match="not finite"):
        Classifier(Settings(str(exported.folder)))


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits, message",
    [
        ({"images": 0}, "the limit images is 0; expected more than 0"),
        ({"images": 9, "queue": 8}, "9 images a request is above that of the queue, 8"),
        ({"image_bytes": 9, "request_bytes": 8}, "9 bytes an image is above that of a request, 8"),
        ({"pixels": 1 << 40}, "above that of the decoder, .* PPCLS_EXT_MAX_PIXELS sets that one"),
    ],
)
def test_limits_that_contradict_each_other(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF....WEBP", b"text"])
def test_a_damaged_header_is_left_to_the_decoder(data):
    assert Limits().pixel_problem(data) is None


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr("ppcls_ext.engine.deploy.serving.settings.usable_cores", lambda: 8)
    assert [share_of_cores(workers, None) for workers in (1, 2, 3, 16)] == [None, 4, 2, 1]
    assert share_of_cores(4, 3) == 3


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen at 127.0.0.1, port {port}: Address already in use"):
            listen("127.0.0.1", port)


def test_answers_are_not_held_back():
    """Answers leave in two parts; with Nagle's algorithm the second would wait for the client's acknowledgement."""

    async def accepted():
        found = asyncio.get_running_loop().create_future()

        def connected(reader, writer):
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        sock = listen("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname())
            writer.close()
            return await found

    assert asyncio.run(accepted())


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(requirements.PACKAGES, "no_such_module", "no-such-package")
    with pytest.raises(ServingError, match=r'needs no-such-package; .*pip install "ppcls_ext\[serve\]"'):
        requirements.check_installed()


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--port", "70000"], 2, "--port is 70000; expected at most 65,535"),
        (["--max_images", "9", "--max_queue", "8"], 2, "the limit of 9 images a request"),
        (["--device", "tpu"], 2, "device is 'tpu'"),
        (["--batch-windw", "3"], 2, "did you mean --batch_window?"),
        ([], 1, "no such folder: nowhere"),
    ],
)
def test_a_wrong_command_line_is_refused(capsys, words, code, message):
    try:
        found = cli.main(["serve", "--model_dir", "nowhere", *words])
    except SystemExit as stop:
        found = stop.code
    assert found == code and message in capsys.readouterr().err
