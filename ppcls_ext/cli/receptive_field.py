"""The command erf."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ppcls_ext.cli.benchmark import resolution
from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import PROGRAM, Switch, add_command, add_subjects, positive
from ppcls_ext.cli.results import OK, UsageError, keep_output_clean, print_table


def add_commands(commands) -> None:
    """Add the command of this module."""
    add = add_command(
        commands,
        "erf",
        run_erf,
        "Measure effective receptive fields: which pixels the centre of a stage's map depends on, by its gradient over "
        "images. Several models stand side by side on one scale; arrays and figures, such as RepLKNet's area ratios, "
        "are written beside the picture.",
        [
            "erf output/Sequencer2D_digits output/ViT_digits --infer_imgs dataset/digits/images --output erf",
            "erf DilateFormer_Tiny ResNet50 --infer_imgs photos --output erf --stage 0 1 2 3 --random_weights",
            "erf paddleclas.ResNet50 --infer_imgs photos --output erf --stage blocks[6] -1",
        ],
    )
    add_subjects(add)
    add("--infer_imgs", required=True, metavar="PATH", help="an image, a folder of images, or a list of them")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for erf.png, erf.npz and erf.json")
    add("--images", type=positive, default=50, help="how many at most, the first ones (default: %(default)s)")
    add(
        "--stage",
        nargs="+",
        default=["-1"],
        metavar="STAGE",
        help="numbers from 0, or from the end with -1, or names of layers such as stages[1].blocks[0] (default: -1)",
    )
    add("--resolution", type=resolution, metavar="N", help="224 or HEIGHTxWIDTH (default: each model's own)")
    add(
        "--gradient",
        choices=("relu", "abs"),
        default="relu",
        help="what counts: its positive part, as in the code of Sequencer and RepLKNet, or its absolute value "
        "(default: %(default)s)",
    )
    add(
        "--scale",
        choices=("absolute", "relative"),
        default="absolute",
        help="colours: log10(1 + contribution) over all models, or each as a part of its largest, from a thousandth "
        "(default: %(default)s)",
    )
    add("--batch_size", type=positive, default=4, help="images at once (default: %(default)s)")
    add("--device", default="cpu", help="cpu, gpu or gpu:<number> (default: %(default)s)")
    add("--plot", action=Switch, default=True, help="draw the picture, which needs matplotlib (default: yes)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_erf(arguments: argparse.Namespace) -> int:
    """Measure receptive fields."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    import_paddle()
    keep_output_clean()
    from ppcls_ext.analysis.drawing import DrawingError, require_matplotlib
    from ppcls_ext.analysis.receptive_field import picture
    from ppcls_ext.analysis.receptive_field.session import Options, receptive_fields, write_files
    from ppcls_ext.analysis.subjects import SubjectError
    from ppcls_ext.data.image_files import list_images
    from ppcls_ext.engine.deploy.engines.choice import check_device

    try:
        check_device(arguments.device)
        if arguments.plot:
            require_matplotlib("leave it out with --no_plot")
        images = list_images(arguments.infer_imgs)[: arguments.images]
    except (ValueError, OSError, DrawingError) as error:
        raise UsageError(str(error)) from None
    options = Options(
        stages=arguments.stage,
        resolution=arguments.resolution,
        overrides=arguments.override,
        random_weights=arguments.random_weights,
        rectifier=arguments.gradient,
        batch=arguments.batch_size,
        device=arguments.device,
    )
    try:
        found, arrays = receptive_fields(arguments.models, images, options, lambda word: print(word, file=sys.stderr))
    except SubjectError as error:
        raise UsageError(str(error)) from None
    found.command = shlex.join([PROGRAM, "erf", *sys.argv[2 if sys.argv[1:2] == ["erf"] else 1 :]])
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_files(found, arrays, arguments.output)
    if arguments.plot:
        picture.draw(found, arrays, arguments.output / "erf.png", arguments.scale)
    if arguments.format == "json":
        print(found.model_dump_json(indent=1))
        return OK
    head = ["model", "stage", *(f"t={area.threshold:.0%}" for area in found.fields[0].areas)]
    rows = [
        [
            field.label,
            field.stage,
            *("-" if area.ratio is None else f"{area.ratio:.1%}" for area in field.areas),
            f"{field.shape.cross:.1%}",
            f"{field.shape.uniform_cross:.1%}",
            f"{field.shape.reached:.1%}",
        ]
        for field in found.fields
    ]
    print_table([*head, "in the cross", "if uniform", "pixels reached"], rows, right=range(2, 9))
    print(arguments.output)
    return OK
