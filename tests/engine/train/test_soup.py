"""``average``: means of checkpoints, greedy ones, batch statistics, and what is refused."""

import json

import numpy as np
import pytest

from ppcls_ext import cli
from ppcls_ext.config.loading import load_config
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.soup import Ingredient, Kitchen, SoupError, make_soup, mean_of, read_ingredient
from ppcls_ext.engine.train.checkpoint import load_checkpoint

RESNET = {"name": "ppcls_ext.ResNet18", "class_num": 10, "depths": [1, 1], "planes": [8, 8]}


@pytest.fixture(scope="module")
def trained_epochs(digits, new_runs, tmp_path_factory):
    """Three epochs of a small ResNet, each saved."""
    runs = new_runs(tmp_path_factory.mktemp("soup"))
    runs.config["Arch"] = dict(RESNET)
    runs.config["Global"].update(epochs=3)
    runs.config["Optimizer"]["lr"] = {"learning_rate": 0.01}
    runs.train()
    return runs


def epochs(runs):
    return [str(runs.output_dir / f"epoch_{number}") for number in (1, 2, 3)]


@pytest.mark.compat
def test_the_mean_is_written_and_read_as_weights(trained_epochs, capsys, tmp_path):
    runs = trained_epochs
    assert cli.main(["average", *epochs(runs), "--output", str(tmp_path / "soup.pdparams"), "--format", "json"]) == 0
    printed = capsys.readouterr().out  # after the log of the run before
    assert json.loads(printed[printed.index("{") :])["used"] == epochs(runs)
    states = [load_checkpoint(path).parts["pdparams"] for path in epochs(runs)]
    found = load_checkpoint(tmp_path / "soup")
    assert found.info["arguments"] == load_checkpoint(epochs(runs)[0]).info["arguments"]
    for name, array in found.parts["pdparams"].items():
        expected = np.mean([state[name].astype(np.float64) for state in states], axis=0)
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-8)
    result = evaluate(load_config(runs.write(), [f"Global.pretrained_model={tmp_path / 'soup'}"], mode="eval"))
    assert 0 <= result["top1"] <= 1
    assert cli.main(["average", *epochs(runs), "--output", str(tmp_path / "soup")]) == 2  # it is there


def test_batch_statistics_are_those_of_the_mean(trained_epochs, tmp_path, capsys):
    runs = trained_epochs
    path = str(runs.write())
    assert cli.main(["average", *epochs(runs), "--output", str(tmp_path / "soup"), "--update_bn", "-c", path]) == 0
    plain = mean_of([load_checkpoint(path).parts["pdparams"] for path in epochs(runs)])
    found = load_checkpoint(tmp_path / "soup").parts["pdparams"]
    for name, array in found.items():
        same = np.allclose(array, plain[name], rtol=1e-5, atol=1e-7)
        assert same != name.endswith(("_mean", "_variance")), name


def test_greedy_adds_what_does_not_harm(trained_epochs):
    """Beside the epochs a set of weights that destroys any mean: it is left out, and the soup is not worse."""
    runs = trained_epochs
    ingredients = [read_ingredient(path) for path in epochs(runs)]
    rng = np.random.default_rng(0)
    broken = {
        name: array + rng.normal(0, 10, array.shape).astype(array.dtype) if "variance" not in name else array
        for name, array in ingredients[0].state.items()
    }
    ingredients.insert(0, Ingredient("broken", broken, ingredients[0].arguments))
    kitchen = Kitchen(load_config(runs.write()), ingredients[1], greedy=True, update_bn=False)
    soup = make_soup(ingredients, kitchen, greedy=True)
    alone = [step["alone"] for step in soup.figures]
    assert alone == sorted(alone, reverse=True) and soup.criterion == "top1"
    assert "broken" not in soup.used and soup.figures[0]["added"]
    figures = [step["soup"] for step in soup.figures if step["added"]]
    assert figures == sorted(figures)
    assert kitchen.score(soup.state, "soup")[0] == figures[-1] >= max(alone)


def ingredient(name="b", **changes):
    return Ingredient(name, {"weight": np.ones((2, 3), np.float32), "count": np.array([1]), **changes})


@pytest.mark.parametrize(
    "other, message",
    [
        (Ingredient("b", {"weight": np.ones((2, 3), np.float32)}), "b does not fit a: it lacks count"),
        (ingredient(bias=np.ones(2, np.float32)), "b does not fit a: it has besides bias"),
        (ingredient(weight=np.ones((3, 2), np.float32)), r"weight is \[3, 2\], not \[2, 3\]"),
        (ingredient(count=np.array([2])), "count holds int64 numbers that differ"),
        (
            Ingredient("b", ingredient().state, {"depths": [2]}),
            r"its model has depths=\[2\], not \[1\]",
        ),
        (Ingredient("b", ingredient().state, {"depths": [1]}, ["dog", "cat"]), "other names or another order"),
    ],
)
def test_what_differs_is_named(other, message):
    first = Ingredient("a", ingredient().state, {"depths": [1]}, ["cat", "dog"])
    with pytest.raises(SoupError, match=message):
        make_soup([first, other])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a", "b", "--output", "soup", "--greedy"], "--greedy needs the configuration"),
        (["a", "--output", "soup"], "expected two checkpoints or more"),
        (["no/such", "no/other", "--output", "soup"], "no weights at no/such"),
    ],
)
def test_wrong_command_lines(arguments, message, capsys):
    assert cli.main(["average", *arguments]) == 2
    assert message in capsys.readouterr().err
