"""The command that writes what is deployed: export."""

from __future__ import annotations

import argparse

from ppcls_ext.cli.parser import (
    Switch,
    add_config_command,
    add_random_weights,
)
from ppcls_ext.cli.results import OK, UsageError
from ppcls_ext.cli.training import load


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_config_command(
        commands,
        "export",
        run_export,
        "Write the static graph, its weights and inference.yml into Global.save_inference_dir. The files are loaded "
        "again and compared with the model before they replace an earlier export.",
        [
            "export -c my.yaml -o Global.pretrained_model=output/best_model Global.save_inference_dir=inference",
            "export -c my.yaml -o Global.pretrained_model=output/best_model --format legacy",
            "export -c my.yaml -o Global.pretrained_model=output/best_model --format default onnx",
        ],
    )
    add_random_weights(add)
    add(
        "--format",
        nargs="+",
        choices=("default", "legacy", "onnx", "triton"),
        default=["default"],
        help="one or several. default: what this Paddle writes (3.x inference.json, 2.6 inference.pdmodel); "
        "legacy: inference.pdmodel on both, as PaddleClas's own predictor needs it; onnx: inference.onnx; triton: "
        "that and a model repository for Triton",
    )
    add(
        "--onednn",
        action=Switch,
        default=True,
        help="try whether Paddle Inference may use oneDNN, in a process of its own (default: yes)",
    )
    add("--opset", type=int, help="of the ONNX graph, 17 to 21 (default: 20)")
    add(
        "--outputs",
        nargs="+",
        metavar="NAME",
        help="results of the ONNX graph: logits or probabilities, features (pooled), stages[0] and so on (maps) "
        "(default: probabilities, or logits with Arch.infer_add_softmax: False)",
    )
    add(
        "--uint8_input",
        action="store_true",
        help="let the ONNX graph take decoded images [N, H, W, 3] of uint8, resized and cropped, and normalise them",
    )


def run_export(arguments: argparse.Namespace) -> int:
    """Export."""
    cfg = load(arguments, "export")
    from ppcls_ext.engine.deploy.exporter import OnnxOptions, check_formats, export
    from ppcls_ext.engine.deploy.onnx.requirements import check_opset

    given = {"opset": arguments.opset, "outputs": arguments.outputs, "uint8_input": arguments.uint8_input or None}
    given = {name: value for name, value in given.items() if value is not None}
    onnx = OnnxOptions(**given) if given else None
    try:
        check_formats(arguments.format, onnx)
        if onnx is not None:
            check_opset(onnx.opset)
    except ValueError as error:
        raise UsageError(str(error)) from None
    export(cfg, arguments.format, onnx, arguments.random_weights, arguments.onednn)
    return OK
