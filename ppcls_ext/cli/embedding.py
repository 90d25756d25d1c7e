"""The command that compares images by their features: embed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import Switch, add_command, add_override, add_random_weights, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError, print_json, print_table


def add_commands(commands) -> None:
    """Add the command."""
    add = add_command(
        commands,
        "embed",
        run_embed,
        "Write the pooled features of images, find the nearest images of each, and draw a map of the classes. With a "
        "list that has class ids it also prints the accuracy of a k-nearest-neighbour classifier.",
        [
            "embed output/Sequencer2D_digits --infer_imgs dataset/digits/val_list.txt --output embeddings",
            "embed output/Sequencer2D_digits --infer_imgs dataset/digits/val_list.txt "
            "--gallery dataset/digits/train_list.txt --k 1 5 20 --output embeddings",
            "embed ViT_S_16_224 --infer_imgs photos --output embeddings --no_tsne",
        ],
    )
    add(
        "model",
        metavar="MODEL",
        help="a run's folder, a checkpoint of it, a YAML file or recipe that names weights, or a backbone's name "
        "(published weights)",
    )
    add_override(add)
    add_random_weights(add)
    add("--infer_imgs", required=True, type=Path, metavar="PATH", help="an image, a folder, or a list")
    add(
        "--gallery",
        type=Path,
        metavar="PATH",
        help="where to look for neighbours: a list, a folder, or embeddings of this model (default: --infer_imgs, each "
        "image without itself)",
    )
    add("--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    add("--k", nargs="+", type=positive, default=[1, 5, 20], help="neighbours that vote (default: 1 5 20)")
    add("--neighbours", type=not_negative, default=5, help="listed for each image (default: %(default)s)")
    add("--metric", choices=("cosine", "euclidean"), default="cosine", help="distance (default: %(default)s)")
    add("--batch_size", type=positive, default=32, help="images a forward pass (default: %(default)s)")
    add("--tsne", action=Switch, default=True, help="draw a map by t-SNE, which needs matplotlib (default: yes)")
    add("--seed", type=not_negative, default=0, help="of t-SNE (default: %(default)s)")
    add("--file_format", choices=("npz", "parquet"), default="npz", help="of the features (default: %(default)s)")
    add("--format", choices=("table", "json"), default="table", help="what to print (default: %(default)s)")


def run_embed(arguments: argparse.Namespace) -> int:
    """Embed."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output: {arguments.output} is a file; expected a folder")
    import_paddle()
    from ppcls_ext.analysis.embedding.retrieval import RetrievalOptions, retrieve

    summary = retrieve(
        arguments.model,
        RetrievalOptions(
            images=arguments.infer_imgs,
            output=arguments.output,
            gallery=arguments.gallery,
            ks=sorted(set(arguments.k)),
            neighbours=arguments.neighbours,
            metric=arguments.metric,
            batch_size=arguments.batch_size,
            tsne=arguments.tsne,
            seed=arguments.seed,
            file_format=arguments.file_format,
        ),
        arguments.override,
        arguments.random_weights,
    )
    if arguments.format == "json":
        print_json(summary)
        return OK
    rows = [("images", f"{summary['images']:,}"), ("numbers a feature", str(summary["dimensions"]))]
    rows += [(f"{k}-NN accuracy", f"{100 * value:.2f}%") for k, value in summary["knn_accuracy"].items()]
    print_table(("figure", "value"), rows, right=(1,))
    for file in summary["files"]:
        print(arguments.output / file)
    return OK
