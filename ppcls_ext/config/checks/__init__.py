"""What no single key can tell: sections that need each other, files, devices, backbones, operators, labels."""

from __future__ import annotations

from ppcls_ext.config.checks import backbone, device, images, infer, sections, shapes, token_labels, training, weights
from ppcls_ext.config.report import Report


def check(report: Report) -> None:
    """Check a configuration whose keys and types are right."""
    sections.check_sections(report)
    sections.check_keys(report)
    device.check_device(report)
    backbone.check_backbone(report)
    training.check_tracking(report)
    training.check_losses(report)
    training.check_schedule(report)
    training.check_average(report)
    training.check_optimizer(report)
    training.check_metrics(report)
    training.check_evaluation(report)
    training.check_selection(report)
    weights.check_weights(report)
    images.check_images(report)
    images.check_batches(report)
    token_labels.check_token_labels(report)
    infer.check_infer(report)
    shapes.check_shapes(report)
