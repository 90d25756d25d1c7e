"""Every configuration of the tree loads, builds model, data and optimizer, trains two steps and evaluates."""

import pytest
import yaml
from recipe_files import CONFIGS, read, reduce, relative

from ppcls_ext.config import ConfigError, load_config
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.logger import start_logging
from ppcls_ext.engine.train.trainer import Trainer
from ppcls_ext.utils.state_dict import state_arrays


@pytest.mark.sampled
@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_two_steps(path, images, tmp_path, monkeypatch):
    config = reduce(read(path), images, tmp_path / "output")
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(config, sort_keys=False))
    # The checkpoints of a hundred models are no subject of this test.
    monkeypatch.setattr(Trainer, "_save", lambda self, name: None)
    start_logging(is_main=False)
    trainer = Trainer(load_config(small), Session("cpu"))
    before = {name: array.copy() for name, array in state_arrays(trainer.model).items()}
    summary = trainer.run()
    assert summary["steps"] == 2 and summary["history"][0]["eval_top1"] >= 0
    after = state_arrays(trainer.model)
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.trainable]
    still = [name for name in trained if (before[name] == after[name]).all()]
    assert len(still) < 0.1 * len(trained), still


#: What is wrong with a recipe on a machine without the data, the weights and the cards.
ABSENT = ("there is no such", "there is neither such a file", "without CUDA", "no archive")


@pytest.mark.parametrize("mode", ["train", "eval", "infer", "export"])
@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_as_it_stands_it_lacks_only_data_weights_and_cards(path, mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        problems, warnings = [], load_config(path, mode=mode).warnings
    except ConfigError as error:
        problems, warnings = [str(problem) for problem in error.problems], []
    assert [problem for problem in problems if not any(part in problem for part in ABSENT)] == []
    assert [warning for warning in warnings if "training accuracy counts" not in warning] == []
