"""The command that averages weights: average."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command
from ppcls_ext.cli.results import OK, UsageError, print_json


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "average",
        run_average,
        "Average the weights of several checkpoints of one model (a soup). They must have the same tensors; what "
        "differs is named. With --greedy the best set comes first, and each of the others is added only if the "
        "evaluation's first metric does not fall. The result is read by Global.pretrained_model.",
        [
            "average output/run/epoch_18 output/run/epoch_19 output/run/epoch_20 --output output/soup",
            "average run1/best_model run2/best_model --output soup --update_bn -c my.yaml",
            "average run1/best_model run2/best_model run3/best_model --output soup --greedy -c my.yaml",
        ],
    )
    add("weights", nargs="+", metavar="checkpoint", help="prefix of a checkpoint, or a file of weights")
    add("--output", required=True, type=Path, help="where to write it: soup or soup.pdparams")
    add("--greedy", action="store_true", help="add a set only if the figure of evaluation does not fall (needs -c)")
    add(
        "--update_bn",
        action="store_true",
        help="measure the batch statistics of the average over the training data (needs -c)",
    )
    add("-c", "--config", help="the configuration of the training: model, data and metric")
    add("-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change keys of it")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--format", choices=("text", "json"), default="text", help="how to print the result (default: text)")


def run_average(arguments: argparse.Namespace) -> int:
    """Average weights."""
    needs = [option for option in ("greedy", "update_bn") if getattr(arguments, option)]
    if needs and arguments.config is None:
        raise UsageError(f"--{needs[0]} needs the configuration of the training: -c my.yaml")
    if arguments.config is not None and not needs:
        raise UsageError("-c is for --greedy and --update_bn; a plain average needs no configuration")
    if len(arguments.weights) < 2:
        raise UsageError(f"expected two checkpoints or more, got {len(arguments.weights)}")
    output = arguments.output
    target = output if output.suffix == ".pdparams" else output.with_name(f"{output.name}.pdparams")
    if target.exists() and not arguments.overwrite:
        raise UsageError(f"{target} is there; give another --output, or --overwrite")
    import_paddle()
    from ppcls_ext.engine.soup import Kitchen, SoupError, make_soup, read_ingredient, save_soup

    try:
        ingredients = [read_ingredient(path) for path in arguments.weights]
        kitchen = None
        if needs:
            from ppcls_ext.cli.training import load
            from ppcls_ext.engine.logger import start_logging

            if arguments.format == "text":  # a program reads JSON alone
                start_logging(True)
            kitchen = Kitchen(load(arguments, "train"), ingredients[0], arguments.greedy, arguments.update_bn)
        try:
            soup = make_soup(ingredients, kitchen, arguments.greedy)
        finally:
            if kitchen is not None:
                kitchen.close()
    except (SoupError, FileNotFoundError) as error:
        raise UsageError(error) from None
    prefix = save_soup(soup, ingredients, output)
    if arguments.format == "json":
        print_json(
            {"output": f"{prefix}.pdparams", "used": soup.used, "criterion": soup.criterion, "steps": soup.figures}
        )
        return OK
    for step in soup.figures:
        verb = "added" if step["added"] else "left out"
        print(f"{verb:8} {step['weights']}: {soup.criterion} alone {step['alone']:.5f}, soup {step['soup']:.5f}")
    print(f"{prefix}.pdparams: mean of {len(soup.used)} of {len(ingredients)} sets of weights")
    return OK
