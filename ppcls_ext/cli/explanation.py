"""The command that explains decisions: explain."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command, add_override, add_random_weights, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table

METHODS = ("gradcam", "integrated_gradients", "smoothgrad", "rollout", "occlusion", "lime")


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "explain",
        run_explain,
        "Show which pixels speak for a class. Writes maps over the images, a grid of all methods and models, the maps "
        "as arrays and, with --faithfulness, how true they are. Occlusion and LIME explain exported models too.",
        [
            "explain output/Sequencer2D_digits --infer_imgs photo.jpg --output explained",
            "explain ResNet=output/ResNet Sequencer=output/Sequencer --infer_imgs photos --method gradcam "
            "integrated_gradients lime --faithfulness --output explained",
            "explain inference/ResNet50 --infer_imgs photo.jpg --method occlusion --engine openvino --output explained",
        ],
    )
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run's folder, a checkpoint of it, a YAML file or recipe that names weights, a backbone's name "
        "(published weights), or an exported folder; `label=` before it names it in pictures",
    )
    add_override(add)
    add_random_weights(add)
    add("--infer_imgs", required=True, metavar="PATH", help="an image, a folder, or a list")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    add(
        "--method",
        nargs="+",
        choices=METHODS,
        default=["gradcam", "integrated_gradients", "occlusion"],
        help="(default: gradcam integrated_gradients occlusion)",
    )
    add("--class", dest="wanted", metavar="CLASS", help="name or id of the class (default: the predicted one)")
    add("--layer", metavar="NAME", help="of Grad-CAM, as `summary` names it (default: the last that has a map)")
    add("--faithfulness", action="store_true", help="areas of deletion and insertion of each map")
    add("--window", type=positive, help="side of occlusion's square in pixels (default: a quarter of the image's)")
    add("--segments", type=positive, default=50, help="superpixels of LIME, about (default: %(default)s)")
    add("--samples", type=positive, default=500, help="of LIME (default: %(default)s)")
    add("--kernel_width", type=float, default=0.25, help="of LIME's weights (default: %(default)s)")
    add("--seed", type=not_negative, default=0, help="of LIME and SmoothGrad (default: %(default)s)")
    add("--engine", choices=("auto", "paddle", "onnxruntime", "openvino"), default="auto", help="of exported models")
    add("--max_images", type=positive, default=16, help="images of a folder or list (default: %(default)s)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_explain(arguments: argparse.Namespace) -> int:
    """Explain."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    if not arguments.kernel_width > 0:
        raise UsageError(f"--kernel_width: expected a number above 0, got {arguments.kernel_width}")
    import_paddle()
    from ppcls_ext.analysis.explanation.lime import LimeOptions
    from ppcls_ext.analysis.explanation.study import StudyOptions, explain
    from ppcls_ext.analysis.explanation.subject import open_subject
    from ppcls_ext.data.image_files import list_images

    images = list_images(arguments.infer_imgs)
    if len(images) > arguments.max_images:
        print(f"the first {arguments.max_images} of {len(images)} images; --max_images takes more", file=sys.stderr)
    subjects = [
        open_subject(word, arguments.override, arguments.random_weights, arguments.engine) for word in arguments.models
    ]
    options = StudyOptions(
        methods=list(dict.fromkeys(arguments.method)),
        output=arguments.output,
        wanted=arguments.wanted,
        layer=arguments.layer,
        faithfulness=arguments.faithfulness,
        window=arguments.window,
        lime=LimeOptions(
            segments=arguments.segments,
            samples=arguments.samples,
            kernel_width=arguments.kernel_width,
            seed=arguments.seed,
        ),
        seed=arguments.seed,
    )
    results = explain(subjects, images[: arguments.max_images], options)
    if arguments.format == "json":
        print_json(results)
        return OK
    rows = [
        (row["image"], row["model"], row["method"], f"{row['class_name']} {row['probability']:.3f}", _figures(row))
        for row in results
    ]
    print_table(("image", "model", "method", "class", "figures"), rows)
    print(arguments.output / "grid.png")
    return OK


def _figures(row: dict) -> str:
    if "error" in row:
        return row["error"]
    names = ("completeness_error", "deletion", "insertion")
    return ", ".join(f"{name} {row[name]:.3f}" for name in names if name in row)
