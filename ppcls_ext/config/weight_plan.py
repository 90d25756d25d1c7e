"""Which weights a configuration asks for: the one answer for its checks and for the engine."""

from __future__ import annotations

from typing import Optional

from ppcls_ext.config.config import Config
from ppcls_ext.factory import existing_factory
from ppcls_ext.weights.resolver import WeightPlan, chosen_source, plan_weights


def plan_of(config: Config, resumed: Optional[dict] = None) -> tuple[WeightPlan, dict]:
    """Return which weights the model of ``config`` gets, and the constructor arguments that ``Arch`` gives for it.

    ``Global.pretrained_model`` wins over ``Arch.pretrained``, which is then neither loaded nor downloaded.

    Args:
        config: names a backbone that there is.
        resumed: what the checkpoint to resume records of its model.

    Raises:
        WeightPlanError, FileNotFoundError, NotRegularFileError, RecordError: see
            :func:`ppcls_ext.weights.resolver.plan_weights`.
    """
    factory = existing_factory(config.Arch.name)
    arguments = dict(config.Arch.kwargs())
    pretrained = arguments.pop("pretrained")
    source = chosen_source(arguments.pop("pretrained_source", None), arguments.pop("pretrained_layout", None))
    # PaddleClas's own factories choose between their files themselves.
    use_ssld = arguments.pop("use_ssld", False) if hasattr(factory, "arguments") else False
    # A file wins, and pretrained_source then says which published weights its run began from.
    override = config.Global.pretrained_model or (pretrained if isinstance(pretrained, str) else None)
    return plan_weights(factory, arguments, pretrained, source, use_ssld, override, resumed), arguments
