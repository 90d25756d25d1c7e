"""The command that shows what attention looks at: attention."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import add_command, add_subjects, not_negative
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "attention",
        run_attention,
        "Show which places a place of an image attends to, layer by layer. For ViT, Swin and DilateFormer, with mean "
        "distance, share of the neighbourhood and entropy of each layer; also ViT's position embeddings and, of these "
        "networks, feature maps by stage.",
        [
            "attention output/ViT_digits --infer_imgs photo.jpg --query 8 8 --output attention",
            "attention output/DilateFormer_digits --infer_imgs photo.jpg --layers 'stages.0.*' --heads --output maps",
            "attention ViT_S_16_224 --infer_imgs photo.jpg --position_embeddings --feature_maps --output attention",
        ],
    )
    add_subjects(add)
    add("--infer_imgs", required=True, metavar="PATH", help="an image; of a folder or a list, the first")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    add("--query", nargs=2, type=not_negative, metavar=("ROW", "COLUMN"), help="in pixels of the network's input")
    add("--layers", nargs="+", default=["*"], metavar="PATTERN", help="names of layers (default: all)")
    add("--heads", action="store_true", help="also draw each head")
    add("--position_embeddings", action="store_true", help="also draw how similar ViT's position embeddings are")
    add("--feature_maps", action="store_true", help="also draw the strongest channels of each stage")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_attention(arguments: argparse.Namespace) -> int:
    """Show attention."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    import_paddle()
    from ppcls_ext.analysis.attention.study import AttentionOptions, study
    from ppcls_ext.analysis.subjects import open_network
    from ppcls_ext.data.image_files import list_images

    image = list_images(arguments.infer_imgs)[0]
    options = AttentionOptions(
        arguments.output,
        tuple(arguments.query) if arguments.query else None,
        arguments.layers,
        arguments.heads,
        arguments.position_embeddings,
        arguments.feature_maps,
    )
    found = [
        study(open_network(word, arguments.override, arguments.random_weights), image, options)
        for word in arguments.models
    ]
    if arguments.format == "json":
        print_json(found)
        return OK
    rows = [
        (item["model"], row["name"], f"{row['distance']:.1f}", f"{100 * row['nearby']:.1f}%", f"{row['entropy']:.2f}")
        for item in found
        for row in item["layers"]
    ]
    print_table(("model", "layer", "distance (px)", "in 3×3", "entropy"), rows, right=(2, 3, 4))
    for item in found:
        print(arguments.output / item["files"][0])
    return OK
