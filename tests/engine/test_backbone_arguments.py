"""Arguments of backbones that only the constructor can judge: a mistake in the configuration, at its key."""

import pytest
from config_sample import Sample

from ppcls_ext import cli

SEQUENCER = "name: ppcls_ext.Sequencer2D_S"
SWIN = "name: ppcls_ext.SwinTransformer_tiny_patch4_window7_224"


@pytest.mark.compat
@pytest.mark.parametrize(
    ("backbone", "argument", "value", "message"),
    [
        (SEQUENCER, "depths", "null", "depths must be a list of integers"),
        (SEQUENCER, "depths", "[1000000000]", "depths[0] must be at most 1,000"),
        (SEQUENCER, "num_rnn_layers", "9223372036854775807", "num_rnn_layers must be at most 1,000"),
        (SEQUENCER, "drop_path_rate", "{a: 1}", "drop_path_rate must be a number"),
        (SEQUENCER, "img_size", "1000000000", "img_size must be at most 16,384"),
        (SEQUENCER, "epsilon", "0.5", "epsilon must be at most 0.001"),
        (SEQUENCER, "epsilon", ".nan", "epsilon must be positive"),
        (SEQUENCER, "embed_dims", "[16, a, 16, 16]", "embed_dims[1] must be an integer"),
        (SWIN, "qkv_bias", "'no'", "qkv_bias must be True or False"),
        (SWIN, "mlp_ratio", ".inf", "mlp_ratio must be at most 1e+06"),
        (SWIN, "num_heads", "[5, 5, 5, 5]", "num_heads"),
    ],
)
def test_it_is_refused_at_its_key(tmp_path, capsys, backbone, argument, value, message):
    sample = Sample(tmp_path)
    sample.replace(SEQUENCER, f"{backbone}\n  {argument}: {value}")
    line = sample.path.read_text().splitlines().index(f"  {argument}: {value}") + 1
    assert cli.main(["eval", "-c", str(sample.path), "--random_weights"]) == 2
    assert f"{sample.path}:{line}: Arch.{argument}: {message}" in capsys.readouterr().err


def test_of_paddleclas_too(tmp_path, capsys):
    """Its constructors fail as it comes: here len(True)."""
    sample = Sample(tmp_path)
    sample.replace(SEQUENCER, "name: PPLCNet_x0_25\n  stride_list: True")
    code = cli.main(["eval", "-c", str(sample.path), "--random_weights"])
    assert code == 2 and "Arch.stride_list: " in capsys.readouterr().err


def test_a_mistake_of_the_weights_stays_one_of_the_weights(tmp_path, capsys):
    """It is no mistake in Arch."""
    sample = Sample(tmp_path)
    (tmp_path / "w.pdparams").write_bytes(b"x")
    assert cli.main(["eval", "-c", str(sample.path), "-o", f"Global.pretrained_model={tmp_path}/w.pdparams"]) == 1
    assert "Arch" not in capsys.readouterr().err
