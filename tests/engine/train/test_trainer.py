"""Training: files, log, exact resuming, accumulation, errors that name their cause."""

import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

from ppcls_ext import cli, plugin
from ppcls_ext.config import load_config
from ppcls_ext.data.shards import ShardIndex, write_shards
from ppcls_ext.engine.bad_images import TooManyBadImagesError
from ppcls_ext.engine.distributed import Session
from ppcls_ext.engine.evaluator import evaluate
from ppcls_ext.engine.logger import start_logging
from ppcls_ext.engine.train.checkpoint import CheckpointError, load_checkpoint
from ppcls_ext.engine.train.trainer import NonFiniteLossError, Trainer
from ppcls_ext.utils.state_dict import state_arrays


def same_weights(a, b):
    a, b = state_arrays(a.model), state_arrays(b.model)
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.compat
def test_files_and_log_lines_are_paddleclas(runs):
    _, summary = runs.train("Global.epochs=3", "Global.keep_last=2")
    names = {path.name for path in runs.output_dir.iterdir() if "previous" not in path.name}
    for prefix in ("best_model", "latest", "epoch_2", "epoch_3"):
        assert {f"{prefix}.{suffix}" for suffix in ("pdparams", "pdopt", "pdstates", "manifest.json")} <= names
    assert not any(name.startswith("epoch_1.") for name in names)
    log = runs.log()
    number = r"\d+\.\d+"
    assert re.search(
        r"^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\] ppcls INFO: "
        rf"\[Train\]\[Epoch 1/3\]\[Iter: 0/3\]lr\(Cosine\): {number}, "
        rf"top1: {number}, top5: {number}, CELoss: {number}, loss: {number}, batch_cost: {number}s, "
        rf"reader_cost: {number}, ips: {number} samples/s, eta: \d:\d\d:\d\d$",
        log,
        re.M,
    )
    for line in (
        r"\[Train\]\[Epoch 3/3\]\[Avg\]top1: ",
        r"\[Eval\]\[Epoch 3\]\[Iter: 0/3\]CELoss: ",
        r"\[Eval\]\[Epoch 3\]\[Avg\]CELoss: ",
        r"\[Eval\]\[Epoch 3\]\[best metric: ",
        r"Already save model in .*latest",
    ):
        assert re.search(line, log), line
    assert summary["steps"] == 9 and len(summary["history"]) == 3


def test_a_run_ends_with_its_outcome_and_the_next_command(runs, capsys):
    """The config is logged once, the summary last; the command that it names works as it is printed."""
    assert cli.main(["train", "-c", str(runs.write())]) == 0
    log = runs.log()
    assert log.count("ppcls INFO: configuration\n") == 1
    metric = load_checkpoint(runs.output_dir / "best_model").parts["pdstates"]["metric"]
    *_, outcome, files, following = log.splitlines()
    assert re.search(rf"finished epoch 2, step 6, in 0:00:\d\d; best top1: {metric:.5f} at epoch [12]$", outcome)
    assert files.endswith(f"files in {runs.output_dir}: best_model, epoch_1, epoch_2, latest, train.log, metrics.jsonl")
    command = shlex.split(following.split("next: ")[1])
    assert command[:2] == ["ppcls_ext", "export"]
    assert cli.main([*command[1:], f"Global.save_inference_dir={runs.folder / 'inference'}"]) == 0
    assert (runs.folder / "inference" / "inference.pdiparams").is_file()


def test_a_log_that_cannot_be_written_does_not_end_the_run(runs, capsys):
    """/dev/full is a disk without space."""
    start_logging(True, Path("/dev/full"))
    trainer = Trainer(load_config(runs.write(), ["Global.epochs=1"]), Session("cpu"))
    trainer.run()
    printed = capsys.readouterr()
    assert printed.out.count("/dev/full cannot be written ([Errno 28] No space left on device)") == 1
    assert "Traceback" not in printed.err and "[Train][Epoch 1/1][Avg]" in printed.out


def test_curves_for_visualdl(runs):
    pytest.importorskip("visualdl")
    runs.train("Global.use_visualdl=True", "Global.epochs=1")
    records = list(runs.output_dir.glob("vdlrecords.*.log"))
    assert len(records) == 1
    content = records[0].read_bytes()
    for tag in (b"step/lr", b"step/train/CELoss", b"epoch/train/top1", b"epoch/eval/top1"):
        assert tag in content, tag


def test_losses_fall(runs):
    runs.config["Optimizer"]["lr"] = {"name": "Constant", "learning_rate": 0.03}
    runs.config["DataLoader"]["Train"]["dataset"]["transform_ops"][1] = {"ResizeImage": {"size": 16}}
    _, summary = runs.train("Global.epochs=12", "Global.save_interval=0")
    losses = [epoch["train_loss"] for epoch in summary["history"]]
    assert losses[-1] < losses[0] - 0.3 and summary["best_metric"] > 0.2


@pytest.mark.skipif(not plugin.HAS_PADDLECLAS, reason="PaddleClas cannot be installed on this Python")
@pytest.mark.compat
def test_a_backbone_of_paddleclas_trains(runs):
    """Any backbone of PaddleClas's table trains, batch norm, EMA and all."""
    runs.config["Arch"] = {"name": "PPLCNet_x0_25", "class_num": 10}
    runs.config["EMA"] = {"decay": 0.5}
    runs.config["Optimizer"]["lr"] = {"name": "Constant", "learning_rate": 0.003}
    runs.config["DataLoader"]["Train"]["dataset"]["transform_ops"][1] = {"ResizeImage": {"size": 64}}
    trainer, summary = runs.train("Global.epochs=6", "Global.eval_during_train=False")
    assert type(trainer.model).__module__.startswith("paddleclas")
    assert summary["history"][-1]["train_loss"] < summary["history"][0]["train_loss"] - 0.2


@pytest.mark.compat
@pytest.mark.parametrize("ema", [False, True], ids=["plain", "ema"])
def test_resuming_within_an_epoch_is_exact(runs, ema):
    """Defects 2, 4 and 6: a run resumed in the middle of an epoch ends bit for bit where the unbroken one ends."""
    if ema:
        runs.config["EMA"] = {"decay": 0.8, "warmup": True}
    runs.config["Arch"]["drop_path_rate"] = 0.3  # so that the model draws random numbers too
    runs.config["Global"]["save_interval_steps"] = 2
    unbroken, summary = runs.train()
    os.rename(runs.output_dir, runs.folder / "unbroken")

    runs.train_until(2, 2)
    state = load_checkpoint(runs.output_dir / "latest").parts["pdstates"]
    assert (state["epoch"], state["iteration"], state["step"]) == (1, 1, 4)
    resumed, again = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert same_weights(unbroken, resumed)
    assert again["best_metric"] == summary["best_metric"] and again["best_epoch"] == summary["best_epoch"]
    assert again["history"][-1] == summary["history"][-1]
    if ema:
        ours, theirs = unbroken.state.ema.state_dict(), resumed.state.ema.state_dict()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.compat
def test_resuming_among_mixed_and_repeated_images_is_exact(runs):
    """The recipe of the vision transformers, with workers: the resumed run gets the batches that it would have had."""
    train = runs.config["DataLoader"]["Train"]
    train["dataset"]["batch_transform_ops"] = [
        {"OpSampler": {"MixupOperator": {"alpha": 0.8, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}}
    ]
    train["dataset"]["transform_ops"].insert(2, {"TimmAutoAugment": {"img_size": 16}})
    train["dataset"]["transform_ops"].append({"RandomErasing": {"EPSILON": 0.25, "mode": "pixel"}})
    train["sampler"].update(name="RASampler", num_repeats=3)
    train["loader"]["num_workers"] = 2
    runs.config["Global"].update(save_interval_steps=2, eval_during_train=False)
    unbroken, summary = runs.train()
    assert all(0 < epoch["train_top1"] < 1 and epoch["train_loss"] < 4 for epoch in summary["history"])
    os.rename(runs.output_dir, runs.folder / "unbroken")
    runs.train_until(2, 1)
    runs.config["DataLoader"]["Train"]["loader"]["num_workers"] = 0
    resumed, _ = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert same_weights(unbroken, resumed)


def into_shards(runs, samples=12) -> None:
    """Let the config of ``runs`` read both lists from shards."""
    for split, name in (("Train", "train"), ("Eval", "val")):
        dataset = runs.config["DataLoader"][split]["dataset"]
        prefix = runs.folder / "shards" / name
        shards = write_shards(dataset["image_root"], dataset["cls_label_path"], prefix, samples=samples, progress=False)
        pattern = f"{prefix}-{{000000..{len(shards) - 1:06d}}}.tar"
        operators = dataset["transform_ops"]
        runs.config["DataLoader"][split]["dataset"] = {
            "name": "ShardDataset", "shards": pattern, "transform_ops": operators
        }  # fmt: skip
    runs.config["DataLoader"]["Train"]["dataset"]["shuffle_buffer"] = 20


@pytest.mark.compat
def test_resuming_among_shards_is_exact(runs):
    """With other numbers of workers, too; another order within the epoch is refused."""
    into_shards(runs)
    runs.config["Global"]["save_interval_steps"] = 2
    runs.config["DataLoader"]["Train"]["loader"]["num_workers"] = 2
    unbroken, summary = runs.train()
    os.rename(runs.output_dir, runs.folder / "unbroken")
    runs.train_until(2, 2)
    latest = f"Global.checkpoints={runs.output_dir / 'latest'}"
    with pytest.raises(
        CheckpointError, match="8 shards, 1 processes, a buffer of 20, with .*; this run reads .* a buffer of 19"
    ):
        runs.trainer(latest, "DataLoader.Train.dataset.shuffle_buffer=19")
    resumed, again = runs.train(latest, "DataLoader.Train.loader.num_workers=0")
    assert same_weights(unbroken, resumed) and again["history"][-1] == summary["history"][-1]


def test_evaluation_of_shards_equals_that_of_the_list(runs):
    _, from_list = runs.train("Global.epochs=1", f"Global.output_dir={runs.folder / 'a'}")
    into_shards(runs, samples=10)
    trained = f"Global.pretrained_model={runs.folder / 'a' / 'latest'}"
    result = evaluate(load_config(runs.write(), [trained], mode="eval"))
    expected = {name[5:]: value for name, value in from_list["history"][0].items() if name.startswith("eval_")}
    assert result["top1"] == expected["top1"] and result["top5"] == expected["top5"]


def test_a_lower_metric_after_resuming_is_not_best(runs):
    """Defects 2 and 3: the best figure is restored; neither a worse nor an equal one overwrites best_model."""
    runs.train("Global.epochs=1")
    checkpoint = load_checkpoint(runs.output_dir / "latest")
    best = checkpoint.parts["pdstates"]["metric"]
    before = (runs.output_dir / "best_model.manifest.json").read_text()
    trainer = runs.trainer(f"Global.checkpoints={runs.output_dir / 'latest'}")
    trainer.state.optimizer.step = lambda: None  # the second epoch's figure equals the first's
    trainer.run()
    assert trainer.state.best.metric == best and trainer.state.best.epoch == 1
    assert (runs.output_dir / "best_model.manifest.json").read_text() == before


@pytest.mark.compat
def test_accumulation_equals_the_larger_batch(runs):
    """Gradient accumulation of 2 × 16 gives the weights of 32 (no batch norm); defect 16: epochs stay whole."""
    runs.config["DataLoader"]["Train"]["sampler"]["batch_size"] = 32
    large, _ = runs.train()
    small, _ = runs.train("DataLoader.Train.sampler.batch_size=16", "Global.update_freq=2")
    assert small.state.progress.step == large.state.progress.step == 6
    # RandCropImage draws by sample, not by batch, so both saw the same images.
    for name, array in state_arrays(large.model).items():
        np.testing.assert_allclose(state_arrays(small.model)[name], array, atol=2e-6, err_msg=name)


@pytest.mark.compat
def test_non_finite_loss_names_step_rate_and_files(runs):
    """Pain 14: a run that diverges stops, and what it has saved is from before."""
    runs.config["Optimizer"]["lr"] = {"name": "Constant", "learning_rate": 1e30}
    runs.config["Global"]["save_interval_steps"] = 1
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, iteration [12] \(learning rate 1\.000e\+30\)") as error:
        runs.train()
    assert str(error.value).count(".png") == 32
    for name in runs.output_dir.glob("latest*.pdparams"):
        assert name.exists()
    weights = load_checkpoint(runs.output_dir / "latest").parts["pdparams"]
    assert load_checkpoint(runs.output_dir / "latest").parts["pdstates"]["step"] == 1 and weights


@pytest.mark.compat
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_first_and_the_run_goes_on_exactly(runs, number, code):
    """Defect 22: SIGTERM and Ctrl-C end the run at a step boundary, with a checkpoint."""
    unbroken, _ = runs.train()
    os.rename(runs.output_dir, runs.folder / "unbroken")
    stopped = runs.trainer()
    step = stopped._step

    def signalled(epoch, iteration, batch):
        if (epoch, iteration) == (2, 1):
            os.kill(os.getpid(), number)
        return step(epoch, iteration, batch)

    stopped._step = signalled
    with pytest.raises(SystemExit) as leaving:
        stopped.run()
    assert leaving.value.code == code
    assert "resume with -o Global.checkpoints=" in runs.log()
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    state = load_checkpoint(runs.output_dir / "latest").parts["pdstates"]
    assert (state["epoch"], state["iteration"]) == (1, 2)
    resumed, _ = runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}")
    assert same_weights(unbroken, resumed)


def test_checkpoint_of_another_model_is_refused(runs):
    """Defect 5: no run goes on from the matching part of another model's weights."""
    runs.train("Global.epochs=1")
    latest = f"Global.checkpoints={runs.output_dir / 'latest'}"
    with pytest.raises(CheckpointError, match="is of Sequencer2D_S, Arch.name is Sequencer2D_M"):
        runs.train(latest, "Arch.name=Sequencer2D_M")
    with pytest.raises(CheckpointError, match=r"latest\.pdparams holds .* embed_dims=\[16, 16\]"):
        runs.train(latest, "Arch.embed_dims=[32, 32]")


def test_other_batches_within_an_epoch_are_refused(runs):
    runs.config["Global"]["save_interval_steps"] = 2
    trainer = runs.trainer()
    trainer._after_epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    with pytest.raises(CheckpointError, match=r"stopped within an epoch, at batch 2 of 3 \(32 samples a step"):
        runs.train(f"Global.checkpoints={runs.output_dir / 'latest'}", "DataLoader.Train.sampler.batch_size=16")


def test_unreadable_images_are_counted_and_limited(runs, tmp_path):
    """Defects 15 and 23: training skips and counts; above the limit it stops and names them."""
    listed = (runs.digits / "train_small.txt").read_text()
    (tmp_path / "broken.png").write_bytes(b"not an image")
    label_list = tmp_path / "train.txt"
    label_list.write_text(listed + f"{tmp_path / 'broken.png'} 3\n")
    runs.config["DataLoader"]["Train"]["dataset"]["cls_label_path"] = str(label_list)
    trainer, summary = runs.train()
    assert "skipped an unreadable image (1 so far)" in runs.log() and "1 unreadable images were skipped" in runs.log()
    assert list(trainer.state.bad_images.state()) == [str(tmp_path / "broken.png")]
    (tmp_path / "second.png").write_bytes(b"")
    label_list.write_text(label_list.read_text() + f"{tmp_path / 'second.png'} 4\n")
    with pytest.raises(
        TooManyBadImagesError, match=r"(?s)2 images cannot be read, .* allows 1.*broken\.png.*second\.png"
    ):
        runs.train()


@pytest.mark.parametrize("shards", [False, True], ids=["list", "shards"])
def test_few_damaged_images_among_many_cost_a_line_each(runs, shards):
    """A list of 3,000 entries, five of them damaged in five ways: the run ends, and says so five times."""
    folder = runs.folder / "many"
    folder.mkdir()
    image = next((runs.digits / "images").glob("*.png")).read_bytes()
    damaged = {"empty": b"", "text": b"<html>404", "half": image[: len(image) // 2], "header": image[:20]}
    for name, data in damaged.items():
        (folder / f"{name}.png").write_bytes(data)
    places = dict(zip((3, 700, 1500, 2999), damaged))
    lines = (runs.digits / "train_small.txt").read_text().splitlines()
    listed = [f"{folder / places[n]}.png 1" if n in places else lines[n % len(lines)] for n in range(3000)]
    (folder / "list.txt").write_text("\n".join(listed) + "\n")
    dataset = runs.config["DataLoader"]["Train"]["dataset"]
    dataset["cls_label_path"] = str(folder / "list.txt")
    expected = len(damaged)
    if shards:
        into_shards(runs, samples=1000)
        last = runs.folder / "shards" / "train-000002.tar"
        index = ShardIndex.load(str(last))
        assert index.sizes[-1] > 100, "the shard's last image is to be cut off, not one that is damaged already"
        last.write_bytes(last.read_bytes()[: index.offsets[-1] + 50])
        expected += 1
    runs.config["DataLoader"]["Train"]["sampler"]["batch_size"] = 500
    runs.config["DataLoader"]["Train"]["loader"]["num_workers"] = 2
    runs.train("Global.epochs=1", "Global.eval_during_train=False", "Global.max_bad_image_ratio=0.01")
    assert runs.log().count("skipped an unreadable image") == expected
    assert f"{expected} unreadable images were skipped" in runs.log()


def test_layer_stop_and_grad_norm_are_logged(runs):
    runs.train("Global.epochs=1", "Global.log_grad_norm=True")
    norms = [float(value) for value in re.findall(r"grad_norm: (\d+\.\d+)", runs.log())]
    assert len(norms) == 3 and all(norm > 0 for norm in norms)


def test_accumulation_longer_than_an_epoch_is_refused(runs):
    with pytest.raises(ValueError, match="update_freq"):
        runs.train("Global.update_freq=9")
