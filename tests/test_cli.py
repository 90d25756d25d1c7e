"""The command line: help, the happy path, and readable errors of every command (row 31 of the checklist)."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ppcls_ext import cli, registry
from ppcls_ext.cli.training import launch_command
from ppcls_ext.data.digits import prepare_digits
from ppcls_ext.version import __version__

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "list",
    "info",
    "compare",
    "summary",
    "download",
    "train",
    "eval",
    "infer",
    "launch",
    "average",
    "export",
    "quantize",
    "predict",
    "serve",
    "report",
    "benchmark",
    "sweep",
    "erf",
    "curves",
    "embed",
    "explain",
    "attention",
    "convert",
    "prepare",
    "finetune",
    "prepare-digits",
    "prepare-cifar",
    "make-label-maps",
    "convert-label-maps",
    "write-shards",
    "index-shards",
    "recipes",
    "paddleclas",
    "quick-start",
    "doctor",
)
#: Scripts in tools/ that are not named after their command.
TOOLS = {
    "list": "list_backbones",
    "info": "backbone_info",
    "export": "export_model",
    "convert": "convert_weights",
}


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    return (code, *capsys.readouterr())


# ---- help ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(capsys, command):
    """It says what the command does, gives an example that parses, and the exit codes."""
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: ppcls_ext {command}" in out and "exit codes:" in out
    examples = out.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    for example in examples:
        words = example.partition("#")[0].replace("'", "").split()
        assert words[0] == "ppcls_ext"
        assert cli.build_parser().parse_args(words[1:]).command == command


def test_help_of_the_program_lists_the_commands(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(f"\n    {command}" in out for command in COMMANDS)
    assert run(capsys, "--version")[1].strip() == f"ppcls_ext {__version__}"


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"launch", "paddleclas"}))
def test_every_command_has_its_tool(capsys, monkeypatch, command):
    """But two: Paddle's launcher is a program itself, and run_paddleclas.py is tested with the plugin."""
    path = ROOT / "tools" / f"{TOOLS.get(command, command.replace('-', '_'))}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 0
    assert f"usage: ppcls_ext {command} " in capsys.readouterr().out


def test_the_tools_run_from_a_plain_clone(tmp_path):
    """No installation, another working directory, no PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "tools" / "train.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "exit codes:" in done.stdout


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--class-num", "7", "--backbone-only", "--no-ema"], {"class_num": 7, "backbone_only": True, "ema": False}),
        (["--class_num=7", "--backbone_only", "--no_ema"], {"class_num": 7, "backbone_only": True, "ema": False}),
        (["--ema", "-o", "a-b=--c-d"], {"ema": True, "override": ["a-b=--c-d"]}),
    ],
)
def test_options_may_be_spelt_with_hyphens_or_underscores(words, expected):
    parsed = vars(cli.build_parser().parse_args(["convert", "--arch", "A", "--src", "b", "--dst", "c-d", *words]))
    assert {name: parsed[name] for name in expected} == expected and parsed["dst"] == Path("c-d")


def test_the_words_of_other_programs_stay_as_they_are():
    parse = cli.build_parser().parse_args
    script = parse(["paddleclas", "train.py", "-c", "x.yaml", "--some-option", "--help"])
    assert script.arguments == ["-c", "x.yaml", "--some-option", "--help"]
    words = ["--nproc_per_node", "2", "--log-dir", "eval", "train", "-c", "x.yaml", "-o", "a=b"]
    assert parse(["launch", *words]).arguments == words


def test_launch_starts_what_a_launcher_can_start(tmp_path):
    """Paddle's launcher has no -m: it runs a file, here without an installation and from anywhere."""
    command = launch_command(["--gpus", "0,1", "train", "-c", "eval"])
    assert command[1:5] == ["-m", "paddle.distributed.launch", "--gpus", "0,1"]
    script, *words = command[5:]
    assert words == ["train", "-c", "eval"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "'eval' is neither a file nor a recipe" in done.stderr


# ---- recipes ------------------------------------------------------------------------------------------------------


def test_recipes_are_listed_and_shown(capsys):
    rows = json.loads(run(capsys, "recipes", "list", "--json")[1])
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert [row["name"] for row in rows] == sorted(str(path.relative_to(ROOT / "configs"))[:-5] for path in files)
    assert all(row["title"] for row in rows)
    listed = run(capsys, "recipes", "list", "cifar10/*")[1].split()
    assert [word for word in listed if "/" in word] == ["CIFAR10/DilateFormer_Tiny", "CIFAR10/Sequencer2D_S"]
    text = (ROOT / "configs/ImageNet/ResNet/ResNet50.yaml").read_text()
    for name in ("ImageNet/ResNet/ResNet50", "ResNet/ResNet50", "ResNet50", "ResNet50.yaml"):
        assert run(capsys, "recipes", "show", name)[1] == text


def test_a_recipe_is_copied_once(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "configs/ImageNet/ResNet/ResNet50.yaml").read_bytes()
    assert run(capsys, "recipes", "copy", "ResNet50")[0] == 0 and Path("ResNet50.yaml").read_bytes() == text
    assert run(capsys, "recipes", "copy", "ResNet50", "my.yaml")[0] == 0 and Path("my.yaml").read_bytes() == text
    code, _, err = run(capsys, "recipes", "copy", "CIFAR10/Sequencer2D_S", "my.yaml")
    assert code == 2 and "my.yaml exists" in err and Path("my.yaml").read_bytes() == text
    code, _, err = run(capsys, "recipes", "copy", "ResNet50", tmp_path / "gone" / "my.yaml")
    assert code == 2 and f"no such folder: {tmp_path / 'gone'}" in err


def test_a_recipe_is_a_config_by_its_name(capsys):
    code, _, err = run(capsys, "eval", "-c", "ResNet50", "-o", "Global.output_dri=x")
    assert code == 2 and "Global.output_dir" in err and "ResNet50" in err


# ---- list, info ---------------------------------------------------------------------------------------------------


def test_list(capsys):
    code, out, _ = run(capsys, "list", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["name"] for row in rows] == registry.list_backbones()
    assert rows[0]["params"] == registry.get_spec(rows[0]["name"]).params
    code, out, _ = run(capsys, "list", "SEQUENCER2D_[sml]")
    assert code == 0 and "GRU" not in out
    assert next(line.split() for line in out.splitlines() if "Sequencer2D_S" in line) == [
        *("Sequencer2D_S", "Sequencer", "27.65", "8.33", "82.34", "yes"),
    ]


def test_list_of_what_has_published_weights(capsys):
    rows = json.loads(run(capsys, "list", "--pretrained", "--json")[1])
    assert [row["name"] for row in rows] == [spec.name for spec in registry.specs() if spec.weights]
    assert {row["weights"] for row in rows} == {"yes", "manual"}
    code, _, err = run(capsys, "list", "VSequencer_S", "--pretrained")
    assert code == 2 and "no backbone that matches 'VSequencer_S' has published weights" in err


def test_list_all_has_the_backbones_of_paddleclas(capsys):
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    names = [row["name"] for row in json.loads(run(capsys, "list", "--all", "--json", "pplcnet_x0_2*")[1])]
    assert names == ["PPLCNet_x0_25"]


def test_info(capsys):
    code, out, _ = run(capsys, "info", "ppcls_ext.Sequencer2D_S", "--json")
    assert code == 0 and json.loads(out)["params"] == 27_651_688
    code, out, _ = run(capsys, "info", "Sequencer2D_S")
    assert code == 0 and "params: 27,651,688" in out and "2205.01972" in out and "licence" in out


def test_info_knows_what_list_all_shows(capsys):
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    for name in ("PPLCNet_x1_0", "paddleclas.PPLCNet_x1_0"):
        info = json.loads(run(capsys, "info", name, "--json")[1])
        assert (info["name"], info["family"]) == ("PPLCNet_x1_0", "PaddleClas")
        assert round(info["params"] / 1e6, 1) == 3.0  # as PaddleClas's table of PP-LCNet states
        assert info["weights"][0]["url"].endswith("PPLCNet_x1_0_pretrained.pdparams")
    code, _, err = run(capsys, "info", "PPLCNet_x1")
    assert code == 2 and "unknown backbone 'PPLCNet_x1'; did you mean " in err and "PPLCNet_x1_0" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["list", "sequenzer*"], "no backbone matches 'sequenzer*'; did you mean"),
        (["info", "Sequencer2DS"], "unknown backbone 'Sequencer2DS'; did you mean Sequencer2D_S"),
        (["info"], "the following arguments are required: name"),
        (["download", "Sequencer2DS"], "unknown backbone 'Sequencer2DS'; did you mean Sequencer2D_S"),
        (["download", "Sequencer2D_S", "VSequencer_S"], "no weights of VSequencer_S are published"),
        (["trian"], "invalid choice: 'trian'; did you mean train?"),
        (["convert", "--to", "pytorch"], "invalid choice: 'pytorch'; did you mean torch?"),
        (["info", "Sequencer2D_S", "--jsn"], "unrecognized arguments: --jsn; did you mean --json?"),
        (["launch", "--gpus", "0"], "expected [options of Paddle's launcher] train | eval [arguments]"),
        (["recipes", "show", "ResNet500"], "'ResNet500' is neither a file nor a recipe; did you mean"),
        (["recipes", "show", "Sequencer2D_S"], "several recipes: CIFAR10/Sequencer2D_S, CIFAR100/Sequencer2D_S, "),
        (["recipes", "list", "Alex*"], "no recipe matches 'Alex*'"),
        (["train", "-c", "ResNet500"], "'ResNet500' is neither a file nor a recipe; did you mean"),
        ([], "the following arguments are required: <command>"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and message in err and "Traceback" not in err


def test_download_without_a_network(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PPCLS_EXT_HOME", str(tmp_path))
    monkeypatch.setenv("PPCLS_EXT_OFFLINE", "1")
    code, out, err = run(capsys, "download", "Sequencer2D_S")
    assert (code, out) == (1, "") and f"put sequencer2d_s.pth into {tmp_path}" in err and "Traceback" not in err


# ---- the main job -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A folder with digits and a config that trains for a second; the tests below run in the order of a user."""
    folder = tmp_path_factory.mktemp("job")
    data = prepare_digits(folder / "digits", progress=False)
    lines = (data / "train_list.txt").read_text().splitlines()
    (data / "train_list.txt").write_text("\n".join(lines[:64]) + "\n")
    normalize = {"scale": "1.0/255.0", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": ""}
    prepare = [{"DecodeImage": {}}, {"ResizeImage": {"size": 16}}, {"NormalizeImage": normalize}]

    def split(name):
        dataset = {"image_root": str(data), "cls_label_path": str(data / name), "transform_ops": prepare}
        return {"dataset": {"name": "ImageNetDataset", **dataset}, "sampler": {"batch_size": 32}}

    config = {
        "Global": {
            "device": "cpu",
            "epochs": 1,
            "output_dir": str(folder / "output"),
            "image_shape": [3, 16, 16],
            "save_inference_dir": str(folder / "inference"),
        },
        "Arch": {
            "name": "Sequencer2D_S",
            "class_num": 10,
            "depths": [1],
            "patch_sizes": [4],
            "embed_dims": [8],
            "hidden_sizes": [2],
            "mlp_ratios": [2.0],
        },
        "Loss": {"Train": [{"CELoss": {"weight": 1.0}}], "Eval": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": {"name": "AdamW", "lr": {"name": "Constant", "learning_rate": 0.003}},
        "DataLoader": {"Train": split("train_list.txt"), "Eval": split("val_list.txt")},
        "Metric": {"Eval": [{"TopkAcc": {"topk": [1]}}]},
        "Infer": {
            "transforms": [*prepare, {"ToCHWImage": None}],
            "PostProcess": {"name": "Topk", "topk": 2, "class_id_map_file": str(data / "label_list.txt")},
        },
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def weights(job) -> str:
    assert cli.main(["train", "-c", str(job / "job.yaml")]) == 0
    return f"Global.pretrained_model={job / 'output' / 'best_model'}"


@pytest.fixture(scope="module")
def exported(job, weights) -> Path:
    assert cli.main(["export", "-c", str(job / "job.yaml"), "-o", weights]) == 0
    return job / "inference"


@pytest.mark.compat
def test_train(job, weights):
    assert (job / "output" / "best_model.pdparams").is_file()


@pytest.mark.compat
def test_eval_takes_overrides_in_both_ways(capsys, job, weights):
    code, out, _ = run(
        capsys, "eval", "-c", job / "job.yaml", "-o", weights, "Global.seed=1", "-o", "Global.device=cpu"
    )
    assert code == 0 and "top1: " in out


@pytest.mark.compat
def test_infer(capsys, job, weights):
    image = next((job / "digits" / "images").iterdir())
    code, out, _ = run(capsys, "infer", "-c", job / "job.yaml", "-o", weights, f"Infer.infer_imgs={image}")
    assert code == 0 and str(image) in out


@pytest.mark.compat
def test_predict(capsys, job, exported):
    arguments = ("predict", "--model_dir", exported, "--infer_imgs", job / "digits" / "val_list.txt")
    code, out, _ = run(capsys, *arguments, "--batch_size", 100, "--format", "json", "--output", job / "out.json")
    results = json.loads(out)  # nothing else is on standard output
    assert code == 0 and len(results) == 360 and json.loads((job / "out.json").read_text()) == results
    code, out, _ = run(capsys, *arguments, "--topk", 1)
    assert code == 0 and out.count(".png") == 360


def test_standard_output_of_predict_is_json_in_a_process_of_its_own(job, exported):
    """Paddle 3.3 writes lines of oneDNN to standard output unless it is switched off."""
    image = next((job / "digits" / "images").iterdir())
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), "--model_dir", str(exported)]
    command += ["--infer_imgs", str(image), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)[0]["file_name"] == str(image)


def test_an_unreadable_image_gives_exit_code_1_and_the_other_results(capsys, job, exported):
    (job / "some").mkdir()
    for number, image in enumerate(sorted((job / "digits" / "images").iterdir())[:3]):
        (job / "some" / f"{number}.png").write_bytes(image.read_bytes() if number != 1 else b"broken")
    code, out, err = run(capsys, "predict", "--model_dir", exported, "--infer_imgs", job / "some", "--format", "json")
    assert code == 1 and [bool(result["class_ids"]) for result in json.loads(out)] == [True, False, True]
    assert "1.png" in err and "error: 1 of 3 images could not be read" in err and "Traceback" not in err


def test_shards_are_written_and_indexed(capsys, tmp_path):
    data = prepare_digits(tmp_path / "digits", progress=False)
    prefix = tmp_path / "shards" / "val"
    written = ("write-shards", "--image_root", data, "--list", data / "val_list.txt", "--output", prefix)
    code, out, _ = run(capsys, *written, "--samples", 100, "--quiet")
    pattern = f"{prefix}-{{000000..000003}}.tar"
    assert code == 0 and "4 shards" in out and pattern in out
    written_index = Path(f"{prefix}-000003.tar.index").read_text()
    Path(f"{prefix}-000003.tar.index").unlink()
    code, out, _ = run(capsys, "index-shards", pattern, "--quiet")
    assert code == 0 and "indexed 360 samples" in out
    assert Path(f"{prefix}-000003.tar.index").read_text() == written_index
    code, _, err = run(capsys, "index-shards", f"{prefix}-{{000000..000004}}.tar", "--quiet")
    assert code != 0 and "val-000004.tar" in err


def test_prepare_digits(capsys, tmp_path):
    code, out, _ = run(capsys, "prepare-digits", "--output", tmp_path / "digits", "--quiet")
    assert code == 0 and "val_list.txt" in out and len(list((tmp_path / "digits" / "images").iterdir())) == 1797


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "eval", "infer", "export"])
@pytest.mark.parametrize(
    "override, message",
    [
        ("Arch.name=Sequencer2DS", "did you mean"),
        ("pretrained_model=output/best_model", "Global.pretrained_model"),
        ("Global.pretrained_model=gone", "gone"),
        ("Arch.class_num=ten", "class_num"),
        ("Global.device", "="),
    ],
    ids=["name", "key", "file", "type", "grammar"],
)
def test_a_wrong_config_is_exit_code_2_on_one_screen(capsys, job, command, override, message):
    extra = ["Infer.infer_imgs=x.png"] if command == "infer" else []
    code, out, err = run(capsys, command, "-c", job / "job.yaml", "-o", override, *extra)
    assert code == 2 and message in err
    assert "Traceback" not in err and len(err.splitlines()) < 24


@pytest.mark.parametrize("command", ["train", "eval", "infer", "export"])
def test_a_config_that_is_not_there(capsys, command):
    code, _, err = run(capsys, command, "-c", "gone.yaml")
    assert code == 2 and "gone.yaml" in err
    code, _, err = run(capsys, command)
    assert code == 2 and "-c/--config" in err


@pytest.mark.parametrize(
    "change, code, message",
    [
        ({"--model_dir": "gone"}, 1, "no such folder: gone"),
        ({"--infer_imgs": "gone"}, 2, "no such image, folder or list: gone"),
        ({"--device": "tpu"}, 2, "device is 'tpu'; expected cpu, gpu"),
        ({"--topk": "0"}, 2, "'0' is not a whole number from 1 to 999,999,999"),
        ({"--batch_size": "many"}, 2, "'many' is not a whole number from 1 to 999,999,999"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_of_predict(capsys, job, exported, change, code, message):
    options = {"--model_dir": exported, "--infer_imgs": job / "digits" / "val_list.txt", **change}
    actual, _, err = run(capsys, "predict", *[word for pair in options.items() for word in pair])
    assert actual == code and message in err and "Traceback" not in err


def test_a_listed_folder_or_list_is_no_image(capsys, tmp_path, exported):
    """Fuzzing found it: a line `/` took all images of the machine."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.txt").write_text("a.png\n")
    (tmp_path / "images.txt").write_text("folder\nother.txt\n")
    code, _, err = run(capsys, "predict", "--model_dir", exported, "--infer_imgs", tmp_path / "images.txt")
    assert code == 1 and f"{tmp_path / 'folder'}: " in err and "is a folder; expected a regular file" in err
    assert f"{tmp_path / 'other.txt'}: " in err and "2 of 2 images could not be read" in err


@pytest.mark.parametrize(
    "script, message", [("gone/tools/train.py", "gone/tools/train.py"), (__file__, "checkout")], ids=["none", "other"]
)
def test_wrong_arguments_of_paddleclas(capsys, script, message):
    code, _, err = run(capsys, "paddleclas", script)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "prepare-digits", "--quiet", "--output", tmp_path / "file")
    assert code == 1 and "file" in err and "Traceback" not in err
    code, _, err = run(capsys, "prepare-digits", "--quiet", "--traceback", "--output", tmp_path / "file")
    assert code == 1 and "Traceback" in err


def raiser(error):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), KeyError("a bug"), ValueError("a bug elsewhere")])
def test_what_is_not_ours_keeps_its_call_stack(monkeypatch, error):
    monkeypatch.setattr("ppcls_ext.cli.models.run_list", raiser(error))
    with pytest.raises(type(error), match="a bug"):
        cli.main(["list"])


def test_ctrl_c_and_a_saved_checkpoint_have_their_exit_codes(monkeypatch, capsys):
    monkeypatch.setattr("ppcls_ext.cli.models.run_list", raiser(KeyboardInterrupt()))
    assert run(capsys, "list")[0] == 130
    monkeypatch.setattr("ppcls_ext.cli.models.run_list", raiser(SystemExit(143)))  # what training raises after SIGTERM
    assert run(capsys, "list")[0] == 143
