"""``pretrained=True`` against a local server: download, conversion, cache, offline switch, several processes."""

import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import paddle
import pytest
import toy_family
from file_server import FileServer, Served

from ppcls_ext import registry
from ppcls_ext.arch.backbone.sequencer import Sequencer2D
from ppcls_ext.weights import download as download_module
from ppcls_ext.weights.conversion import convert_file
from ppcls_ext.weights.download import DownloadError
from ppcls_ext.weights.errors import NoPublishedWeightsError, WeightPlanError
from ppcls_ext.weights.pretrained import choose, converted_path, is_offline, pretrained_path, weights_folder
from ppcls_ext.weights.remap import sources_of
from ppcls_ext.weights.resolver import plan_weights

TOY = {"depths": [1, 1], "patch_sizes": [2, 2], "embed_dims": [8, 8], "hidden_sizes": [2, 2], "mlp_ratios": [1.0, 1.0]}
LICENCE = "Toy Licence 1.0"


def register_toy(url, **options):
    """Enter a small Sequencer2D with published weights at ``url`` into the registry."""
    weights = (registry.Weights(url, "sequencer", LICENCE, **options),)
    return toy_family.register_toy("Toy_S", Sequencer2D, {**TOY, "img_size": 8}, weights)


@pytest.fixture
def home(tmp_path, monkeypatch, restored_registry):
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PPCLS_EXT_OFFLINE", raising=False)
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    return tmp_path / "home" / "weights" / "Toy_S"


@pytest.fixture
def toy(home, tmp_path):
    """A server with the weights of a model of ours in the official source; the registry knows the address."""
    with FileServer() as server:
        server.spec = register_toy(f"{server.url}/toy.safetensors")
        paddle.seed(0)
        server.model = server.spec.factory()
        for parameter in server.model.parameters():
            parameter.set_value(paddle.randn(parameter.shape))
        server.model.eval()
        paddle.save(server.model.state_dict(), str(tmp_path / "toy.pdparams"))
        convert_file(arch="Toy_S", src=tmp_path / "toy.pdparams", dst=tmp_path / "toy.safetensors", to="torch")
        server.served = Served((tmp_path / "toy.safetensors").read_bytes())
        server.files["/toy.safetensors"] = server.served
        yield server


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


def logits(model):
    model.eval()
    return model(paddle.to_tensor(IMAGES)).numpy()


@pytest.mark.compat
def test_the_first_call_downloads_and_converts_and_the_next_reads_the_result(toy, home, caplog):
    with caplog.at_level(logging.INFO, logger="ppcls_ext"):
        model = toy.spec.factory(pretrained=True)
    assert np.array_equal(logits(model), logits(toy.model))
    assert LICENCE in caplog.text and toy.url in caplog.text
    converted = "toy.safetensors.sequencer.pdparams"
    assert sorted(p.name for p in home.iterdir() if p.name != ".lock") == [converted, f"{converted}.json"]
    toy.files.clear()
    caplog.clear()
    again = toy.spec.factory(pretrained=True, class_num=7)
    assert np.array_equal(
        again.forward_features(paddle.to_tensor(IMAGES)), model.forward_features(paddle.to_tensor(IMAGES))
    )
    assert LICENCE in caplog.text, "the licence is shown on every loading"
    assert len(toy.served.requests) == 1


def test_a_broken_connection_is_mended(toy):
    toy.served.breaks.append(download_module.BLOCK // 8)
    assert np.array_equal(logits(toy.spec.factory(pretrained=True)), logits(toy.model))
    assert len(toy.served.requests) == 2


def test_offline_needs_the_file_by_hand(toy, home, monkeypatch):
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=f"PPCLS_EXT_OFFLINE is set; put toy.safetensors into {home} and it will be"
    ):
        toy.spec.factory(pretrained=True)
    (home / "toy.safetensors").write_bytes(toy.served.content)
    assert np.array_equal(logits(toy.spec.factory(pretrained=True)), logits(toy.model))
    assert toy.served.requests == []


def test_a_file_by_hand_is_checked_like_a_downloaded_one(toy, home):
    spec = register_toy(f"{toy.url}/toy.safetensors", sha256="0" * 64)
    home.mkdir(parents=True)
    (home / "toy.safetensors").write_bytes(toy.served.content)
    with pytest.raises(DownloadError, match="toy.safetensors has the SHA-256 .*, published is 0{64}"):
        spec.factory(pretrained=True)


def test_wrong_hash_and_not_found(toy, home):
    spec = register_toy(f"{toy.url}/toy.safetensors", sha256="abcdef")
    with pytest.raises(
        DownloadError, match=f"published is abcdef; it was thrown away. Without a network, put .* {home}"
    ):
        spec.factory(pretrained=True)
    toy.files.clear()
    with pytest.raises(DownloadError, match="404 Not Found"):
        spec.factory(pretrained=True)
    assert not [path for path in home.iterdir() if path.name != ".lock"]


PROCESS = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import numpy as np
from test_published import logits, register_toy
print(repr(logits(register_toy(sys.argv[2]).factory(pretrained=True)).tolist()))
"""


@pytest.mark.slow
def test_several_processes_download_once(toy, home):
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), here, f"{toy.url}/toy.safetensors"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert set(printed) == {repr(logits(toy.model).tolist())}
    assert len(toy.served.requests) == 1


def test_weights_behind_a_page_name_it_and_the_command(home):
    page = registry.Weights("https://drive.example/folder", "vip", LICENCE, manual=True)
    with pytest.raises(NoPublishedWeightsError) as error:
        pretrained_path("ViP_Toy", [page])
    for text in (
        page.url,
        LICENCE,
        "ppcls_ext convert --arch ViP_Toy --src",
        "pretrained=ViP_Toy.pdparams",
    ):
        assert text in str(error.value)
    direct = registry.Weights("https://host.example/vip.pth", "vip", LICENCE)
    assert choose("ViP_Toy", [page, direct]) is direct


def test_which_of_several_files():
    files = [registry.Weights(f"https://host.example/{source}.pth", source, LICENCE) for source in ("vip", "timm")]
    assert choose("ViP_Toy", files) is files[0] and choose("ViP_Toy", files, "timm") is files[1]
    with pytest.raises(ValueError, match="pretrained_source='jax': the weights of ViP_Toy have vip, timm"):
        choose("ViP_Toy", files, "jax")
    with pytest.raises(ValueError, match="pretrained_source='timm' requires pretrained=True, got pretrained=False"):
        registry.get_spec("Sequencer2D_S").factory(pretrained_layout="timm")


def test_weights_of_other_arguments_than_the_names_own(toy, home):
    """They must be given, as forms must; with them the file is converted and loaded."""
    spec = register_toy(f"{toy.url}/toy.safetensors", arguments={"activation": "relu"})
    with pytest.raises(ValueError, match="Toy_S are of a model with activation='relu': give activation='relu' too"):
        spec.factory(pretrained=True)
    assert toy.served.requests == []
    model = spec.factory(pretrained=True, activation="relu")
    relu = Sequencer2D(**TOY, img_size=8, activation="relu")
    relu.set_state_dict(toy.model.state_dict())
    assert np.array_equal(logits(model), logits(relu)) and not np.array_equal(logits(model), logits(toy.model))


def test_the_registrys_weights_name_arguments_that_there_are_and_sources():
    for spec in registry.specs():
        sources = [source.name for source in sources_of(spec.family)]
        for item in spec.weights:
            assert item.source in sources, spec.name
            assert set(item.arguments or {}) <= set(spec.factory.arguments), spec.name
            if item.sha256:
                assert item.url.rpartition("-")[2].startswith(item.sha256), spec.name


@pytest.mark.parametrize("spec", [s for s in registry.specs() if s.weights], ids=lambda spec: spec.name)
def test_the_first_published_file_is_for_the_names_own_model(spec, home):
    """Of the name's own form; pretrained=True alone works, but where the only file is of another model."""
    direct = [item for item in spec.weights if not item.manual]
    if not direct:
        with pytest.raises(NoPublishedWeightsError, match="pages without a direct link"):
            plan_weights(spec.factory, {}, pretrained=True)
        return
    needed = direct[0].arguments or {}
    if needed:
        with pytest.raises(WeightPlanError) as error:
            plan_weights(spec.factory, {}, pretrained=True)
        assert [argument for argument, _ in error.value.problems] == list(needed)
    plan = plan_weights(spec.factory, needed, pretrained=True)
    assert (plan.published, plan.path) == (direct[0], converted_path(spec.name, direct[0]))
    assert plan.arguments == {key: spec.factory.arguments[key] for key in plan.arguments}
    assert not plan.path.exists()  # a plan downloads nothing


def test_the_folder_and_the_switch(monkeypatch, tmp_path):
    monkeypatch.delenv("PPCLS_EXT_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "ppcls_ext" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "ppcls_ext" / "weights"
    for value, expected in (("1", True), ("true", True), ("0", False), ("", False), ("False", False)):
        monkeypatch.setenv("PPCLS_EXT_OFFLINE", value)
        assert is_offline() is expected
