"""The command that takes a user's data to a deployed model: finetune."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, Switch, add_command, add_override, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "finetune",
        run_finetune,
        "Train a backbone on your data, evaluate its best weights, write the report, and export. The settings follow "
        "rules that the documentation lists (own_data.md); they are written, with reasons, into "
        "<output>/finetune.yaml, which `train -c` runs by itself.",
        [
            "finetune --data dataset/photos --arch SwinTransformer_tiny_patch4_window7_224",
            "finetune --data photos --arch ResNet50 --epochs 20 -o Optimizer.lr.learning_rate=0.005",
            "finetune --data photos --arch ResNet18 --from_scratch --img_size 64",
            "finetune --data dataset/photos --arch ResNet50 --dry_run   # the YAML file alone",
        ],
    )
    add("--data", required=True, type=Path, metavar="DATA", help="what `prepare` wrote, or what it takes")
    add("--arch", required=True, metavar="NAME", help=f"a backbone; `{PROGRAM} list` shows them")
    add("--output", type=Path, metavar="DIR", help="folder of the run (default: output/<data>_<arch>)")
    add("--epochs", type=positive, help="(default: by the number of images)")
    add("--batch_size", type=positive, help="images per batch (default: by memory and the number of images)")
    add("--img_size", type=positive, help="height and width (default: those of the published weights)")
    add("--pretrained", metavar="FILE", help="weights to start from (default: the published ones)")
    add("--from_scratch", action="store_true", help="accept random weights to start from")
    add("--device", choices=("cpu", "gpu"), help="(default: a GPU if there is one)")
    add("--flip", action=Switch, default=True, help="mirror images in training; not for text and signs (default: yes)")
    add("--seed", type=not_negative, default=0, help="of split, weights, order, augmentation (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace an earlier run in the folder")
    add("--dry_run", action="store_true", help="write the YAML file alone")
    add("--format", choices=("table", "json"), default="table", help="what to print at the end (default: %(default)s)")
    add_override(add)


def run_finetune(arguments: argparse.Namespace) -> int:
    """Fine-tune."""
    import_paddle()
    from ppcls_ext.data.errors import LabelFileError, PreparationError
    from ppcls_ext.workflow.errors import FinetuneError
    from ppcls_ext.workflow.finetuning import FinetuneOptions, finetune

    as_json = arguments.format == "json"
    options = FinetuneOptions(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        img_size=arguments.img_size,
        pretrained=arguments.pretrained,
        from_scratch=arguments.from_scratch,
        overrides=arguments.override,
        device=arguments.device,
        flip=arguments.flip,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
        say=lambda line: print(f"== {line}", file=sys.stderr if as_json else sys.stdout, flush=True),
    )
    try:
        # The log of training goes to standard output, which is to hold the result alone.
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            result = finetune(arguments.data, arguments.arch, arguments.output, options)
    except (FinetuneError, PreparationError, LabelFileError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    except KeyError as error:
        if str(error.args[0]).startswith("unknown backbone"):
            raise UsageError(error.args[0]) from None
        raise
    if as_json:
        print_json(_as_data(result))
    else:
        _show(result)
    return OK


def _as_data(result) -> dict:
    text = {name: getattr(result, name) for name in ("config", "output", "weights", "report", "exported")}
    return {
        **{name: None if value is None else str(value) for name, value in text.items()},
        "dataset": str(result.dataset.folder),
        "top1": result.top1,
        "test_top1": result.test_top1,
        "left_out": result.left_out,
    }


def _show(result) -> None:
    rows = [("configuration", str(result.config))]
    if result.top1 is not None:
        rows.append(("top-1, validation", f"{100 * result.top1:.2f}%"))
    if result.test_top1 is not None:
        rows.append(("top-1, test", f"{100 * result.test_top1:.2f}%"))
    rows += [(name, str(value)) for name, value in _as_data(result).items() if name in ("weights", "report") and value]
    if result.exported is not None:
        rows.append(("exported model", str(result.exported)))
    rows += [(f"left out: {step}", reason) for step, reason in result.left_out.items()]
    print_table(("result", ""), rows)
    if result.exported is not None:
        folder = shlex.quote(str(result.exported))
        print(f"next: {PROGRAM} predict --model_dir {folder} --infer_imgs <image>")
        print(f"      {PROGRAM} serve --model_dir {folder}")
    elif result.weights is None:
        print(f"next: {PROGRAM} train -c {shlex.quote(str(result.config))}")
