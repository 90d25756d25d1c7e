"""Sections that say what to run and how: Global, Arch, AMP, EMA."""

from __future__ import annotations

from typing import Annotated, Any, List, Literal, Optional, Union

from pydantic import BeforeValidator, ConfigDict, Field, Strict

from ppcls_ext.config.schema.base import Bool, Float, Int, OneOf, Section, Text, ignored, unsupported, with_keys

#: More than any classification data set has; a typo beyond it would fill the memory with the classifier's weights.
MAX_CLASSES = 1_000_000
#: Of an image: more needs more memory than one batch may take.
MAX_SIDE = 8192
FolderName = Annotated[Text, Field(pattern=r"\S")]

_RETRIEVAL = "retrieval is not supported; ppcls_ext trains and evaluates classification"
_PADDLEX = "PaddleX's output layout is not supported"

_GLOBAL_OF_PADDLECLAS = {
    "to_static": unsupported("training through to_static is not supported; export needs no such key"),
    "use_dali": unsupported("DALI is not supported; set False for the ordinary data loader"),
    "train_mode": unsupported("train modes (fixmatch, progressive, metabin, ...) are not supported"),
    "eval_mode": unsupported(_RETRIEVAL, allowed=(None, "classification")),
    "use_multilabel": unsupported("multi-label classification is not supported"),
    "warmup_iter": unsupported("the metabin train mode is not supported"),
    "retrieval_feature_from": unsupported(_RETRIEVAL),
    "re_ranking": unsupported(_RETRIEVAL),
    "feature_normalize": unsupported(_RETRIEVAL),
    "feature_binarize": unsupported(_RETRIEVAL),
    "sim_block_size": unsupported(_RETRIEVAL),
    "uniform_output_enabled": unsupported(_PADDLEX),
    "hpi_config_path": unsupported(_PADDLEX),
    "export_for_fd": ignored("inference.yml is always written"),
    "image_channel": ignored("Arch decides the number of channels"),
    "print_mem_info": ignored("memory is not part of the log line"),
    "log_ranks": ignored("process 0 logs"),
    "distributed": ignored("paddle.distributed.launch decides"),
}


def _false_is_none(value: Any) -> Any:
    return None if value is False else value


class EarlyStoppingSection(Section):
    """When to stop before the last epoch; a key of our own."""

    metric: Optional[Text] = Field(
        None,
        description="figure of evaluation that is watched, such as top1, recall_macro or loss; ema_top1: that of the "
        "averaged weights; unset: the one that selects the best model",
    )
    patience: Annotated[Int, Field(ge=1)] = Field(
        description="evaluations in a row without an improvement after which training stops"
    )
    min_delta: Annotated[Float, Field(ge=0)] = Field(0.0, description="what an improvement must exceed")


@with_keys(_GLOBAL_OF_PADDLECLAS)
class GlobalSection(Section):
    """The run: device, length, what is saved, evaluated and logged, and where."""

    checkpoints: Optional[Text] = Field(
        None, description="checkpoint to resume from: its prefix, a file of it, or a run's folder (training only)"
    )
    pretrained_model: Optional[Text] = Field(
        None,
        description="weights to start from, evaluate, predict with or export; takes precedence over Arch.pretrained",
    )
    output_dir: FolderName = Field("./output/", description="folder of weights and logs")
    overwrite: Bool = Field(
        False, description="delete the checkpoints left in output_dir by an earlier run (training only)"
    )
    device: Annotated[
        Text, OneOf("device", ("cpu", "gpu"), ("xpu", "npu", "mlu", "ascend", "intel_gpu", "mps", "gcu"))
    ] = Field("gpu", description="device to run on")
    epochs: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="number of epochs to train (required for training)"
    )
    save_interval: Int = Field(1, description="epochs between the checkpoints epoch_N; 0 or less: none")
    save_interval_steps: Annotated[Int, Field(ge=0)] = Field(
        0, description="optimizer steps between extra saves of the resumable state latest; 0: only after each epoch"
    )
    keep_last: Annotated[Int, Field(ge=0)] = Field(0, description="number of epoch_N checkpoints to keep; 0: all")
    eval_during_train: Bool = Field(True, description="evaluate during training; without it there is no best_model")
    eval_interval: Annotated[Int, Field(ge=1)] = Field(1, description="epochs between evaluations")
    start_eval_epoch: Annotated[Int, Field(ge=0)] = Field(0, description="first epoch that is evaluated")
    best_metric: Optional[Text] = Field(
        None,
        description="figure of evaluation that selects the best model, such as recall_macro or loss; unset: that of "
        "early_stopping, else the first of Metric.Eval",
    )
    early_stopping: Optional[EarlyStoppingSection] = Field(None, description="when to stop before the last epoch")
    print_batch_step: Annotated[Int, Field(ge=1)] = Field(10, description="batches between log lines")
    use_visualdl: Bool = Field(False, description="write VisualDL records into output_dir")
    use_tensorboard: Bool = Field(False, description="write TensorBoard event files into output_dir")
    plot_curves: Bool = Field(False, description="draw curves.png in output_dir when the training is over")
    update_freq: Annotated[Int, Field(ge=1)] = Field(1, description="gradient accumulation: batches per optimizer step")
    base_batch_size: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None,
        description="images per optimizer step, over all processes, for which the learning rates are stated; a "
        "different number scales them linearly; unset: no scaling",
    )
    recompute: Bool = Field(
        False, description="save memory: keep only the input of each block and run the block again in the backward pass"
    )
    iter_per_epoch: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="batches per epoch; unset: one pass over the data"
    )
    seed: Annotated[Optional[Annotated[Int, Field(ge=0, lt=2**32)]], BeforeValidator(_false_is_none)] = Field(
        None, description="seed of weights, order and augmentation; unset: 0"
    )
    find_unused_parameters: Bool = Field(
        False, description="for models with unused parameters, in training with several processes"
    )
    log_grad_norm: Bool = Field(False, description="log the global norm of the gradients")
    max_bad_image_ratio: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.001, description="largest share of unreadable training images that are skipped and counted"
    )
    image_shape: Annotated[List[Annotated[Int, Field(ge=1, le=MAX_SIDE)]], Field(min_length=3, max_length=3)] = Field(
        [3, 224, 224], description="[channels, height, width] of the exported model's input"
    )
    save_inference_dir: FolderName = Field("./inference", description="folder of the exported model")
    pdx_model_name: Optional[FolderName] = Field(
        None, description="model name in inference.yml, one that PaddleX knows; unset: Arch.name"
    )


_RECOGNITION = "models with a separate head (RecModel, Head, Neck) are not supported"
_DISTILLATION = "distillation is not supported"
_ARCH_OF_PADDLECLAS = {
    "use_ml_decoder": unsupported("the ML-Decoder head is not supported"),
    "is_rec": unsupported(_RECOGNITION),
    "Backbone": unsupported(_RECOGNITION),
    "BackboneStopLayer": unsupported(_RECOGNITION),
    "Neck": unsupported(_RECOGNITION),
    "Head": unsupported(_RECOGNITION),
    "models": unsupported(_DISTILLATION),
    "pretrained_list": unsupported(_DISTILLATION),
    "freeze_params_list": unsupported(_DISTILLATION),
    "infer_model_name": unsupported(_DISTILLATION),
}


@with_keys(_ARCH_OF_PADDLECLAS)
class ArchSection(Section):
    """The backbone. Every other key is an argument of the backbone."""

    model_config = ConfigDict(extra="allow")

    name: Text = Field(description="a backbone of ppcls_ext or of the installed PaddleClas")
    class_num: Annotated[Int, Field(ge=1, le=MAX_CLASSES)] = Field(1000, description="number of classes")
    pretrained: Optional[Union[Annotated[bool, Strict()], Text]] = Field(
        False, description="path of weights to start from; True: the backbone's published weights"
    )
    freeze: Optional[Union[Text, List[Text]]] = Field(
        None,
        description="layers and parameters to freeze, batch statistics too: names, beginnings of names or patterns, "
        "such as stem, stages.0, stages.*.norm*; all_but_head: a linear probe; training only",
    )
    use_sync_bn: Bool = Field(False, description="batch statistics over all processes (GPU)")
    infer_output_key: Optional[Text] = Field(
        None, description="key of the class scores if the backbone returns a mapping; unset: logits"
    )
    infer_add_softmax: Bool = Field(True, description="whether the exported model ends in a softmax")

    def kwargs(self) -> dict:
        """Return the arguments of the backbone: ``class_num``, ``pretrained`` and every key without other meaning."""
        return {"class_num": self.class_num, "pretrained": self.pretrained or False, **(self.model_extra or {})}


class AMPSection(Section):
    """Mixed precision; a section without ``use_amp: False`` switches it on."""

    use_amp: Bool = Field(True, description="whether to train in mixed precision")
    level: Literal["O1", "O2"] = Field(
        "O1", description="O1: listed operators in half precision; O2: weights too, with float32 master weights"
    )
    dtype: Literal["float16", "bfloat16"] = Field("float16", description="the half-precision type")
    scale_loss: Annotated[Float, Field(ge=1)] = Field(2.0**15, description="initial loss scale (float16)")
    use_dynamic_loss_scaling: Bool = Field(True, description="adapt the loss scale (float16)")
    use_fp16_test: Bool = Field(False, description="evaluate in mixed precision too")
    use_promote: Bool = Field(False, description="O2: compute in float32 where any input is float32")


class EMASection(Section):
    """Exponential moving average of the weights; the section switches it on."""

    decay: Annotated[Float, Field(gt=0, lt=1)] = Field(0.9999, description="decay per optimizer step")
    warmup: Bool = Field(False, description="let the decay grow as (1 + t) / (10 + t) up to decay")


class SWASection(Section):
    """Stochastic weight averaging: the mean of the weights after the last epochs; the section switches it on."""

    start_epoch: Annotated[Int, Field(ge=1)] = Field(description="first epoch after which weights are averaged")
    freq: Annotated[Int, Field(ge=1)] = Field(1, description="epochs from one set of weights to the next")
    lr: Optional[Annotated[Float, Field(gt=0)]] = Field(
        None, description="constant learning rate from start_epoch on; unset: the schedule goes on"
    )
    update_bn: Bool = Field(
        True, description="measure the batch statistics of the average over the training data at the end"
    )
