"""From a config to a folder that predicts: the static graph, its weights and ``inference.yml``.

The graph is written aside, loaded again with Paddle's inference engine and compared with the dygraph model at two batch
sizes and, where the backbone takes any size, two resolutions. Only then do the new files take the places of the old, so
that a failed export leaves the previous one whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from ppcls_ext.arch.backbone.base import Backbone
from ppcls_ext.engine.class_names import prediction_labels
from ppcls_ext.engine.deploy.inference_yml import FILE_NAME, InferenceConfig, portable_transforms
from ppcls_ext.engine.deploy.pdmodel_format import legacy_tracing
from ppcls_ext.engine.deploy.predictor import GRAPH_SUFFIXES, PREFIX, Runner, find_graph
from ppcls_ext.engine.logger import log_config, start_logging
from ppcls_ext.engine.model import load_trained, logits_of
from ppcls_ext.utils.files import flush
from ppcls_ext.version import __version__

logger = logging.getLogger("ppcls_ext")

FORMATS = ("default", "legacy")
#: Read by Paddle 3 at import: 0 makes it write ``.pdmodel`` instead of ``.json``.
PIR_FLAG = "FLAGS_enable_pir_api"
#: Largest difference between graph and dygraph, relative to the largest output. Float32 sums in another order give
#: about 1e-6; a frozen size or a lost layer gives more than 1e-2.
TOLERANCE = 1e-4
CHECKED_BATCH_SIZES = (1, 3)
#: What tracing raises when a model's Python code needs a size that is not known yet; it has no class of its own.
TRACE_ERRORS = (ValueError, TypeError, RuntimeError, AttributeError, AssertionError, LookupError, ArithmeticError)


class ExportError(RuntimeError):
    """The export was not written; files of an earlier export are untouched."""


class InferenceModel(nn.Layer):
    """A backbone as it is deployed: one output tensor, probabilities unless ``softmax`` is off.

    Args:
        backbone: gives a tensor, a list whose first item counts, or a mapping.
        output_key: which item of a mapping.
        softmax: whether to end in a softmax over the classes.
    """

    def __init__(self, backbone: nn.Layer, output_key: str = "logits", softmax: bool = True):
        super().__init__()
        self.backbone = backbone
        self.output_key = output_key
        self.softmax = softmax

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[N, C, H, W]`` -> ``[N, class_num]``."""
        output = logits_of(self.backbone(x), self.output_key)
        return nn.functional.softmax(output, axis=-1) if self.softmax else output


@dataclass(frozen=True)
class Sample:
    """An input and what the dygraph model gives for it."""

    images: np.ndarray
    output: np.ndarray


def export(cfg, format: str = "default", random_weights: bool = False) -> Path:
    """Export the model that ``cfg`` describes into ``Global.save_inference_dir``.

    Args:
        cfg: the validated config; ``Global.pretrained_model`` names the weights.
        format: ``default`` is what this Paddle writes: ``inference.json`` (3.x) or ``inference.pdmodel`` (2.6).
            ``legacy`` is ``inference.pdmodel`` on both, which the predictor of PaddleClas 2.6 reads.
        random_weights: accept a config that names no weights; the model then has its initial ones.

    Returns:
        The folder.

    Raises:
        ExportError: the model has another number of classes than the config or the label file, it cannot be traced, or
            the written files compute something else than the model.
        MissingWeightsError, WeightMismatchError, NonFiniteWeightsError: see
            :func:`ppcls_ext.engine.model.load_trained`.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected {' or '.join(FORMATS)}")
    folder = Path(cfg.Global.save_inference_dir)
    if int(os.environ.get("PADDLE_TRAINER_ID") or 0) != 0:
        return folder
    start_logging(True, Path(cfg.Global.output_dir) / "export.log")
    if format == "legacy" and uses_pir():
        return _export_in_child(cfg, folder, random_weights)
    log_config(cfg)
    device = paddle.get_device()
    paddle.set_device("cpu")  # the files know no device
    try:
        _export(cfg, folder, random_weights)
    finally:
        paddle.set_device(device)
    return folder


def uses_pir() -> bool:
    """Return whether this process writes Paddle 3's graph format."""
    switch = getattr(paddle.framework, "use_pir_api", None)
    return bool(switch and switch())


def _export(cfg, folder: Path, random_weights: bool) -> None:
    model = _load(cfg, random_weights)
    channels, height, width = cfg.Global.image_shape
    native = [_sample(model, n, (channels, height, width)) for n in CHECKED_BATCH_SIZES]
    labels = _labels(cfg, class_num=native[0].output.shape[-1])
    if all(
        np.array_equal(sample.output, np.broadcast_to(native[0].output[0], sample.output.shape)) for sample in native
    ):
        logger.warning("the model gives the same output for every input, so comparing outputs proves little")
    other = _samples_at_another_size(model, (channels, height, width))
    _re_parameterize(model)
    if isinstance(model.backbone, Backbone):
        model.backbone.fold(height, width)

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as aside:
        aside = Path(aside)
        dynamic, reason = bool(other), "it takes no other size"
        if dynamic:
            reason = _try(model, aside, (channels, None, None), native + other)
            dynamic = reason is None
        if not dynamic:
            logger.warning("%s is exported for %d×%d only: %s", cfg.Arch.name, height, width, reason)
            reason = _try(model, aside, (channels, height, width), native)
            if reason is not None:
                raise ExportError(f"{cfg.Arch.name} was not exported: {reason}")
        description = _describe(cfg, labels, find_graph(aside).name, dynamic)
        description.record(sorted(path for path in aside.iterdir() if path.suffix in (*GRAPH_SUFFIXES, ".pdiparams")))
        description.save(aside / FILE_NAME)
        _move_into_place(aside, folder)
    logger.info('Export succeeded! The inference model exported has been saved in "%s".', folder / PREFIX)


def _load(cfg, random_weights: bool) -> InferenceModel:
    """Build the model with its weights, in evaluation mode."""
    model = InferenceModel(
        load_trained(cfg, "exported", random_weights),
        output_key=cfg.Arch.infer_output_key or "logits",
        softmax=cfg.Arch.infer_add_softmax is not False,
    )
    model.eval()
    return model


def _labels(cfg, class_num: int) -> list[str]:
    """Return the label names; the widths of head, config and label file must be one number."""
    expected = cfg.Arch.class_num
    if expected is not None and class_num != expected:
        raise ExportError(f"the model has {class_num} outputs, but Arch.class_num is {expected}")
    try:
        return prediction_labels(cfg, class_num)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _sample(model: nn.Layer, batch_size: int, shape: tuple) -> Sample:
    """Return normal noise, as normalised images are, and the model's output for it."""
    images = np.random.default_rng(batch_size).standard_normal((batch_size, *shape), dtype=np.float32)
    with paddle.no_grad():
        return Sample(images, model(paddle.to_tensor(images)).numpy())


def _samples_at_another_size(model: nn.Layer, shape: tuple) -> list[Sample]:
    """Return samples at a size that the model takes beside its native one, or nothing.

    Multiples of the native size keep what it is divisible by; a non-square one shows exchanged axes.
    """
    channels, height, width = shape
    for new_height, new_width in ((height * 3 / 2, width), (height * 2, width), (height * 2, width * 2)):
        if new_height % 1:
            continue
        try:
            return [_sample(model, n, (channels, int(new_height), int(new_width))) for n in CHECKED_BATCH_SIZES]
        except TRACE_ERRORS:  # how a backbone says that it does not take the size is not agreed upon
            continue
    return []


def _re_parameterize(model: nn.Layer) -> None:
    """Fold the branches of RepVGG-like layers; some have ``is_repped``, others fold once by themselves."""
    for layer in model.sublayers():
        if hasattr(layer, "re_parameterize") and not getattr(layer, "is_repped", False):
            layer.re_parameterize()


def _try(model: nn.Layer, folder: Path, shape: tuple, samples: list[Sample]) -> Optional[str]:
    """Write the graph for inputs ``[None, *shape]``, read it back and compare; return what went wrong, if anything."""
    try:
        _write(model, folder, shape)
    except TRACE_ERRORS as error:
        last_line = (str(error).strip().splitlines() or [""])[-1].strip()
        return f"tracing failed with {type(error).__name__}: {last_line}"
    try:
        runner = Runner(find_graph(folder))
        for sample in samples:
            problem = _compare(sample, runner(sample.images))
            if problem:
                return problem
    except (RuntimeError, ValueError, OSError) as error:  # how Paddle reports a graph that it cannot run
        return f"the written graph does not run: {type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return None


def _write(model: nn.Layer, folder: Path, shape: tuple) -> None:
    # Given a layer that was not converted before, jit.save traces its whole forward and leaves the layer alone.
    with contextlib.nullcontext() if uses_pir() else legacy_tracing(model):
        paddle.jit.save(model, str(folder / PREFIX), input_spec=[InputSpec([None, *shape], "float32", "x")])


def _compare(sample: Sample, output: np.ndarray) -> Optional[str]:
    """Return how ``output`` differs from the dygraph model's, or None if it does not."""
    shape = "×".join(map(str, sample.images.shape))
    if output.shape != sample.output.shape:
        return f"for an input {shape} the graph gives {list(output.shape)}, dygraph {list(sample.output.shape)}"
    scale = float(np.abs(sample.output).max()) or 1.0
    difference = float(np.abs(output - sample.output).max()) / scale
    # Written so that NaN, which compares false, is a problem too.
    if not difference <= TOLERANCE:
        return (
            f"for an input {shape} graph and dygraph differ by {difference:.3g} of the largest output {scale:.3g}; "
            f"{TOLERANCE:g} is allowed"
        )
    logger.info("Checked %s: graph and dygraph differ by %.1e of the largest output", shape, difference)
    return None


def _describe(cfg, labels: list[str], graph: str, dynamic: bool) -> InferenceConfig:
    section, transforms = _evaluation_transforms(cfg)
    transform_ops, decode = portable_transforms(transforms)
    post_process = cfg.Infer.PostProcess if cfg.Infer is not None else None
    topk = post_process.topk if post_process is not None else 5
    return InferenceConfig(
        model_name=cfg.Arch.name,
        transform_ops=transform_ops,
        topk=min(topk, len(labels)),
        label_list=labels,
        decode=decode,
        softmax=cfg.Arch.infer_add_softmax is not False,
        facts={
            "graph": graph,
            "image_shape": list(cfg.Global.image_shape),
            "dynamic": ["batch", "height", "width"] if dynamic else ["batch"],
            "class_num": len(labels),
            "transforms_from": section,
            "paddle": paddle.__version__,
            "ppcls_ext": __version__,
        },
    )


def _evaluation_transforms(cfg) -> tuple[str, list]:
    """Return the operators that evaluation used, and the section of the config that holds them."""
    if cfg.DataLoader is not None and cfg.DataLoader.Eval is not None:
        return "DataLoader.Eval", cfg.DataLoader.Eval.dataset.transform_ops
    if cfg.Infer is not None and cfg.Infer.transforms:
        return "Infer", cfg.Infer.transforms
    raise ExportError("the config has neither DataLoader.Eval nor Infer.transforms: the preprocessing is not known")


def _move_into_place(aside: Path, folder: Path) -> None:
    """Exchange the files of the old export for the new ones.

    Not one step, but at every instant the folder holds one export or none: a reader needs ``inference.yml`` and the
    graph, which go first and come last. Both formats name their weights alike, so an old graph of the other format
    would be wrong beside the new weights.
    """
    new = sorted(aside.iterdir(), key=lambda path: (path.name == FILE_NAME, path.suffix in GRAPH_SUFFIXES))
    for path in new:
        flush(path)
    old = [FILE_NAME, *(PREFIX + suffix for suffix in (*GRAPH_SUFFIXES, ".pdiparams.info"))]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    for path in new:
        os.replace(path, folder / path.name)


def _export_in_child(cfg, folder: Path, random_weights: bool) -> Path:
    """Export in a process of its own: Paddle 3 reads the switch for the old format at import only."""
    environment = {**os.environ, PIR_FLAG: "0"}
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    with tempfile.TemporaryDirectory(prefix="ppcls_ext-export-") as scratch:
        config = Path(scratch) / "config.yaml"
        cfg.save(config)
        command = [sys.executable, "-m", "ppcls_ext.cli", "export", "-c", str(config)]
        command += ["--random_weights"] if random_weights else []
        child = subprocess.run(command, env=environment, check=False)
    if child.returncode != 0:
        raise ExportError(f"the process that writes the legacy format ended with exit code {child.returncode}")
    return folder
