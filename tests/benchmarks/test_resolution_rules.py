"""The study of image sizes: a short one from training to table."""

from pathlib import Path

import pytest
from resolution_rules import RULES, main, study, table

from ppcls_ext.arch.layers import axis_linear
from ppcls_ext.data.digits import prepare_digits

CONFIG = Path(__file__).parents[2] / "configs" / "quick_start" / "ViP_digits.yaml"
SHORT = ["Global.epochs=3", "Optimizer.lr.warmup_epoch=0", "Global.eval_during_train=False"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    prepare_digits(folder / "dataset" / "digits", progress=False)
    return folder


@pytest.mark.slow
def test_a_short_study(digits, monkeypatch, capsys):
    """At the native size all rules are the same model; away from it the weights matter. Rules do not stay behind."""
    monkeypatch.chdir(digits)
    before = dict(axis_linear.RULES)
    results = study(CONFIG, seeds=[3], sizes=[24], rules=["resample, cubic", "pad"], overrides=SHORT)
    assert axis_linear.RULES == before
    assert [list(by_size) for by_size in results.values()] == [[16, 24]] * 2
    cubic, pad = results.values()
    assert cubic[16] == pad[16] and 0.3 < cubic[16][0] <= 1
    assert cubic[24][0] > pad[24][0] + 0.1
    with pytest.raises(SystemExit):
        main(["-c", str(CONFIG), "--rules", "resampel"])
    assert "'resample, cubic'" in capsys.readouterr().err


def test_table():
    results = {"pad": {16: [0.5, 0.75], 24: [0.1, 0.3]}, "pool": {16: [1, 1], 24: [0.25, 0.125]}}
    assert table(results).splitlines() == [
        "| Rule | 16 | 24 |",
        "| :--: | :--: | :--: |",
        "| pad | 62.5 (50.0–75.0) | 20.0 (10.0–30.0) |",
        "| pool | 100.0 (100.0–100.0) | 18.8 (12.5–25.0) |",
    ]


def test_the_default_rule_is_the_studys_cubic_one():
    for length in (4, 9):
        own, studied = axis_linear.RULES["resample"](length, 6), RULES["resample, cubic"](length, 6)
        assert all((a == b).all() for a, b in zip(own[:2], studied[:2]))
