"""The schema of a configuration: PaddleClas's sections and keys, ours, and what is refused."""

from __future__ import annotations

from typing import Optional

from pydantic import Field, model_validator

from ppcls_ext.config.schema.base import Section, unsupported, with_keys
from ppcls_ext.config.schema.data import DataLoaderSection, InferSection
from ppcls_ext.config.schema.run import AMPSection, ArchSection, EMASection, GlobalSection, SWASection
from ppcls_ext.config.schema.training import LossSection, MetricSection, OptimizerSection

__all__ = ["Sections"]

_OF_PADDLECLAS = {
    "Slim": unsupported("pruning and quantisation are not supported", allowed=(None,)),
    "MLDecoder": unsupported("the ML-Decoder head is not supported", allowed=(None,)),
}


@with_keys(_OF_PADDLECLAS)
class Sections(Section):
    """A whole configuration."""

    Global: GlobalSection = Field(description="the run")
    Arch: ArchSection = Field(description="the backbone")
    AMP: Optional[AMPSection] = Field(None, description="mixed precision")
    EMA: Optional[EMASection] = Field(None, description="moving average of the weights")
    SWA: Optional[SWASection] = Field(None, description="mean of the weights after the last epochs")
    Loss: Optional[LossSection] = Field(None, description="what is minimised")
    Optimizer: Optional[OptimizerSection] = Field(None, description="how it is minimised")
    DataLoader: Optional[DataLoaderSection] = Field(None, description="the images")
    Metric: Optional[MetricSection] = Field(None, description="what is measured")
    Infer: Optional[InferSection] = Field(None, description="prediction on images without labels")

    @model_validator(mode="after")
    def _fit_defaults(self) -> Sections:
        """Let a default k be no more than the number of classes; one that is given is checked instead."""
        classes = self.Arch.class_num
        for item in [*(self.Metric.Train or []), *(self.Metric.Eval or [])] if self.Metric else []:
            if item.TopkAcc and "topk" not in item.TopkAcc.model_fields_set:
                item.TopkAcc.topk = [k for k in item.TopkAcc.topk if k <= classes]
        if self.Infer and "topk" not in self.Infer.PostProcess.model_fields_set:
            self.Infer.PostProcess.topk = min(self.Infer.PostProcess.topk, classes)
        return self
