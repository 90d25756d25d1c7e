"""Sections of the objective: Loss, Optimizer with its schedule, Metric."""

from __future__ import annotations

from typing import Annotated, Any, List, Literal, Optional, Union

from pydantic import BeforeValidator, Field

from ppcls_ext.config.schema.base import Bool, Float, Int, OneKey, Section, Text, ignored, unsupported, with_keys

Positive = Annotated[Float, Field(gt=0)]
NotNegative = Annotated[Float, Field(ge=0)]
Share = Annotated[Float, Field(ge=0, lt=1)]

# ---- losses ----------------------------------------------------------------------------------------------------

LOSSES_OF_PADDLECLAS = (
    "AFDLoss CCSSLCELoss CenterLoss CombinedLoss ContrastiveLoss_XBM CosFaceLoss DKDLoss DMLLoss DistanceLoss "
    "DistillationCELoss DistillationDISTLoss DistillationDKDLoss DistillationDMLLoss DistillationDistanceLoss "
    "DistillationGTCELoss DistillationKLDivLoss DistillationKLLoss DistillationMultiLabelLoss DistillationPairLoss "
    "DistillationRKDLoss DistillationSKDLoss DistillationWSLLoss DSHSDLoss EmlLoss GoogLeNetLoss KLDivLoss LCDSHLoss "
    "MetaBinLoss MixCELoss MSMLoss MSMLoss_XBM MultiLabelAsymmetricLoss MultiLabelLoss NpairsLoss PairwiseCosface "
    "RKDLoss SoftSupConLoss SoftTargetCrossEntropy SupConLoss TripletAngularMarginLoss TripletAngularMarginLoss_XBM "
    "TripletLoss TripletLossV2"
).split()


def _not_supported(kind: str, names: list, supported: str) -> dict:
    return {
        name: unsupported(f"the {kind} {name} of PaddleClas is not supported; supported: {supported}", allowed=(None,))
        for name in names
    }


ClassWeights = Optional[Union[Literal["balanced"], List[NotNegative]]]
_CLASS_WEIGHTS: Any = Field(
    None,
    description="weight of each class: a list, or balanced: in inverse proportion to its training samples; unset: "
    "equal; training only",
)


class CELossArguments(Section):
    """Softmax cross entropy."""

    weight: NotNegative = Field(1.0, description="weight of this loss in the sum")
    epsilon: Optional[Share] = Field(None, description="label smoothing; unset: none")
    reduction: Literal["mean", "sum"] = Field("mean", description="how to reduce over the batch")
    class_weights: ClassWeights = _CLASS_WEIGHTS


class FocalLossArguments(Section):
    """Cross entropy that counts well classified samples less."""

    weight: NotNegative = Field(1.0, description="weight of this loss in the sum")
    gamma: NotNegative = Field(2.0, description="exponent of the focusing factor; 0: none")
    activation: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="softmax: classes exclude each other; sigmoid: each class against the rest"
    )
    alpha: Optional[Annotated[Float, Field(ge=0, le=1)]] = Field(
        None, description="sigmoid: weight of positives, 1 - alpha of negatives; unset: 1 for both"
    )
    class_weights: ClassWeights = _CLASS_WEIGHTS
    epsilon: Optional[Share] = Field(None, description="label smoothing; unset: none")
    reduction: Literal["mean", "sum"] = Field("mean", description="how to reduce over the batch")


class BCEWithLogitsLossArguments(Section):
    """Binary cross entropy of each class against the rest."""

    weight: NotNegative = Field(1.0, description="weight of this loss in the sum")
    epsilon: Optional[Share] = Field(None, description="label smoothing; unset: none")
    target_threshold: Optional[Share] = Field(
        None, description="shares of a mixed label above it count 1, others 0; unset: shares as they are"
    )
    pos_weight: Optional[Union[Positive, List[Positive]]] = Field(
        None, description="factor of the positive terms, one or one for each class; unset: 1"
    )
    sum_classes: Bool = Field(False, description="add over the classes in place of the mean")
    reduction: Literal["mean", "sum"] = Field("mean", description="how to reduce over the batch")


class TokenLabelLossArguments(Section):
    """Cross entropy of images and of their tokens."""

    weight: NotNegative = Field(1.0, description="weight of this loss in the sum")
    cls_weight: NotNegative = Field(1.0, description="weight of the image's cross entropy")
    dense_weight: NotNegative = Field(1.0, description="weight of the mean over its tokens")
    epsilon: Optional[Share] = Field(None, description="label smoothing; unset: none")


@with_keys(_not_supported("loss", LOSSES_OF_PADDLECLAS, "CELoss, FocalLoss, BCEWithLogitsLoss, TokenLabelLoss"))
class LossItem(OneKey):
    """One loss."""

    CELoss: Optional[CELossArguments] = Field(None, description="cross entropy on class indices or probabilities")
    FocalLoss: Optional[FocalLossArguments] = Field(
        None, description="focal loss, which counts well classified samples less"
    )
    BCEWithLogitsLoss: Optional[BCEWithLogitsLossArguments] = Field(
        None, description="binary cross entropy of each class against the rest"
    )
    TokenLabelLoss: Optional[TokenLabelLossArguments] = Field(
        None, description="token labelling, for a model with Arch.token_label"
    )


@with_keys({"UnLabelLoss": unsupported("semi-supervised training is not supported", allowed=(None,))})
class LossSection(Section):
    """Losses: their weighted sum is minimised, and reported term by term."""

    Train: Optional[Annotated[List[LossItem], Field(min_length=1)]] = Field(None, description="losses of training")
    Eval: Optional[Annotated[List[LossItem], Field(min_length=1)]] = Field(None, description="losses of evaluation")


# ---- metrics ---------------------------------------------------------------------------------------------------

METRICS_OF_PADDLECLAS = (
    "ATTRMetric AccuracyScore DistillationTopkAcc GoogLeNetTopkAcc HammingDistance MultiLabelMAP "
    "MultilabelMeanAccuracy Precisionk Recallk mAP mINP"
).split()


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


class TopkAccArguments(Section):
    """Top-k accuracy; soft labels are scored against their dominant class."""

    topk: Annotated[List[Annotated[Int, Field(ge=1)]], Field(min_length=1), BeforeValidator(_as_list)] = Field(
        [1, 5],
        description="values of k; the first one selects the best model; unset: at most the number of classes",
    )


class TprAtFprArguments(Section):
    """True-positive rate at a bounded false-positive rate, for two classes."""

    max_fpr: Annotated[Float, Field(ge=0, le=1)] = Field(0.001, description="greatest false-positive rate allowed")


def _as_text_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class AverageArguments(Section):
    """How a figure of each class becomes one."""

    average: Annotated[
        List[Literal["macro", "weighted", "micro"]], Field(min_length=1), BeforeValidator(_as_text_list)
    ] = Field(
        ["macro"],
        description="macro: the mean over the classes that occur; weighted: by their samples; micro: over all samples, "
        "which is the accuracy",
    )


class NoArguments(Section):
    """A metric without arguments."""


@with_keys(
    _not_supported(
        "metric",
        METRICS_OF_PADDLECLAS,
        "TopkAcc, TprAtFpr, Precision, Recall, F1, PerClass, ConfusionMatrix",
    )
)
class MetricItem(OneKey):
    """One metric."""

    TopkAcc: Optional[TopkAccArguments] = Field(None, description="top-k accuracy")
    TprAtFpr: Optional[TprAtFprArguments] = Field(None, description="true-positive rate at max_fpr, for two classes")
    Precision: Optional[AverageArguments] = Field(None, description="share of a class's predictions that are right")
    Recall: Optional[AverageArguments] = Field(None, description="share of a class's samples that are found")
    F1: Optional[AverageArguments] = Field(None, description="harmonic mean of precision and recall")
    PerClass: Optional[NoArguments] = Field(
        None, description="precision, recall, F1 and samples of each class, as a table; evaluation only"
    )
    ConfusionMatrix: Optional[NoArguments] = Field(
        None, description="samples of each class by predicted class, as a table; evaluation only"
    )


class MetricSection(Section):
    """Metrics: the first figure of ``Eval`` decides which model is best."""

    Train: Optional[List[MetricItem]] = Field(None, description="metrics of training")
    Eval: Optional[Annotated[List[MetricItem], Field(min_length=1)]] = Field(None, description="metrics of evaluation")


# ---- learning rate ---------------------------------------------------------------------------------------------

SCHEDULES_OF_PADDLECLAS = {"Cyclic", "CosineFixmatch"}
_LR_OF_PADDLECLAS = {
    "last_epoch": unsupported("a run resumes through Global.checkpoints", allowed=(None, -1)),
    "step_each_epoch": ignored("the length of an epoch follows from the data"),
    "verbose": ignored("the log shows the learning rate"),
}


@with_keys(_LR_OF_PADDLECLAS)
class _Schedule(Section):
    learning_rate: Positive = Field(description="rate after the warm-up")
    warmup_epoch: NotNegative = Field(0.0, description="epochs of linear warm-up; fractions are allowed by step")
    warmup_start_lr: NotNegative = Field(0.0, description="rate at the first step of the warm-up")
    by_epoch: Bool = Field(False, description="change the rate after each epoch instead of each optimizer step")


class ConstantLR(_Schedule):
    """The same rate throughout."""

    name: Literal["Constant", "ConstLR"] = Field("Constant", description="what lr without a name means")


class LinearLR(_Schedule):
    """Polynomial decay."""

    name: Literal["Linear"]
    end_lr: NotNegative = Field(0.0, description="rate at the end")
    power: Positive = Field(1.0, description="exponent; 1 is linear")
    cycle: Bool = Field(False, description="whether to start again after the end")


class CosineLR(_Schedule):
    """Half a cosine from the end of the warm-up to the end of the run, or to its cool-down."""

    name: Literal["Cosine"]
    eta_min: NotNegative = Field(0.0, description="rate at the end")
    warmup_prefix: Bool = Field(
        True,
        description="whether the cosine starts after the warm-up; False: both start together, and the warm-up hides "
        "the beginning of the cosine",
    )
    cooldown_epoch: NotNegative = Field(0.0, description="final epochs of the run, at eta_min")


class StepLR(_Schedule):
    """A factor every so many epochs."""

    name: Literal["Step"]
    step_size: Positive = Field(description="epochs between two decays; fractions are allowed by step")
    gamma: Positive = Field(description="factor")


class PiecewiseLR(_Schedule):
    """A table of rates."""

    name: Literal["Piecewise"]
    learning_rate: Optional[Positive] = Field(  # type: ignore[assignment]  # not a subtype: a field of its own
        None, description="alone: a tenth every 30 epochs; beside values it must equal the first of them"
    )
    decay_epochs: Optional[List[Positive]] = Field(None, description="epochs at which the next value begins")
    values: Optional[List[NotNegative]] = Field(None, description="rates, one more than decay_epochs")


class MultiStepLR(_Schedule):
    """A factor at each of the milestones."""

    name: Literal["MultiStepDecay"]
    milestones: Annotated[List[Positive], Field(min_length=1)] = Field(description="epochs, increasing")
    gamma: Positive = Field(0.1, description="factor")


@with_keys(_LR_OF_PADDLECLAS)
class OneCycle(Section):
    """Up to a peak and down to almost nothing, over the whole run (Smith and Topin, arXiv 1708.07120)."""

    name: Literal["OneCycleLR"]
    max_learning_rate: Positive = Field(description="the highest rate")
    divide_factor: Annotated[Float, Field(gt=1)] = Field(25.0, description="max_learning_rate / rate at the start")
    end_learning_rate: NotNegative = Field(0.0001, description="rate at the end")
    phase_pct: Annotated[Float, Field(gt=0, lt=1)] = Field(0.3, description="share of the run in which the rate rises")
    anneal_strategy: Literal["cos", "linear"] = Field("cos", description="form of the curve")
    three_phase: Bool = Field(False, description="fall to the first rate as long as it rose, and then to the end")
    by_epoch: Bool = Field(False, description="change the rate after each epoch instead of each optimizer step")


class PlateauLR(_Schedule):
    """A factor whenever the figure that selects the best model does not improve; it counts evaluations."""

    name: Literal["ReduceOnPlateau"]
    mode: Optional[Literal["min", "max"]] = Field(
        None, description="whether the figure should fall or rise; unset: a loss falls, others rise"
    )
    factor: Annotated[Float, Field(gt=0, lt=1)] = Field(0.1, description="factor")
    patience: Annotated[Int, Field(ge=0)] = Field(10, description="evaluations without an improvement that are borne")
    threshold: NotNegative = Field(1e-4, description="what an improvement must exceed")
    threshold_mode: Literal["rel", "abs"] = Field(
        "rel", description="threshold as a share of the best figure, or as is"
    )
    cooldown: Annotated[Int, Field(ge=0)] = Field(0, description="evaluations after a change that do not count")
    min_lr: NotNegative = Field(0.0, description="lowest rate")
    epsilon: NotNegative = Field(1e-8, description="smaller changes of the rate are left out")


def _default_name(value: Any) -> Any:
    return {"name": "Constant", **value} if isinstance(value, dict) else value


LearningRate = Annotated[
    Annotated[
        Union[ConstantLR, LinearLR, CosineLR, StepLR, PiecewiseLR, MultiStepLR, OneCycle, PlateauLR],
        Field(discriminator="name"),
    ],
    BeforeValidator(_default_name),
]

# ---- optimizers ------------------------------------------------------------------------------------------------


class Regularizer(Section):
    """Penalty on the weights."""

    name: Literal["L1", "L2"] = Field(description="norm")
    coeff: NotNegative = Field(description="coefficient")


@with_keys(
    {
        "clip_grad": ignored(
            "PaddleClas reads clip_grad nowhere, so its recipes train unclipped, and so does this run; "
            "write clip_global_norm to clip"
        ),
        "lr_mult_list": unsupported(
            "use layerwise_decay for rates that fall towards the input, and Arch.freeze to freeze layers",
            allowed=(None,),
        ),
        "filter_bias_and_bn": unsupported(
            "say it with one_dim_param_no_weight_decay and no_weight_decay_name", allowed=(None,)
        ),
    }
)
class _Optimizer(Section):
    lr: LearningRate = Field(description="schedule of the learning rate")
    weight_decay: Optional[NotNegative] = Field(
        None, description="decay coefficient; AdamW and Lamb decay the weights themselves"
    )
    clip_global_norm: Optional[Positive] = Field(None, description="clip the global norm of all gradients")
    clip_norm: Optional[Positive] = Field(None, description="clip the norm of each tensor's gradient separately")
    one_dim_param_no_weight_decay: Bool = Field(False, description="exempt biases, scales and shifts from decay")
    no_weight_decay_name: Optional[Text] = Field(
        None, description="parts of parameter names, separated by spaces, that are exempt from decay"
    )


class _Regularized(_Optimizer):
    regularizer: Optional[Regularizer] = Field(None, description="penalty, instead of weight_decay")


class SGD(_Regularized):
    """Plain stochastic gradient descent."""

    name: Literal["SGD"]
    multi_precision: Bool = Field(False, description="float32 master weights for half-precision parameters")


class Momentum(_Regularized):
    """Gradient descent with momentum."""

    name: Literal["Momentum"]
    momentum: Share = Field(description="momentum")
    use_nesterov: Bool = Field(False, description="Nesterov's variant")
    multi_precision: Bool = Field(True, description="float32 master weights for half-precision parameters")


class RMSProp(_Regularized):
    """RMSProp."""

    name: Literal["RMSProp"]
    momentum: Share = Field(0.0, description="momentum")
    rho: Share = Field(0.95, description="decay of the mean square")
    epsilon: Positive = Field(1e-6, description="added to the denominator")


class _AdamArguments(Section):
    beta1: Share = Field(0.9, description="decay of the first moment")
    beta2: Share = Field(0.999, description="decay of the second moment")
    epsilon: Positive = Field(1e-8, description="added to the denominator")
    multi_precision: Bool = Field(False, description="float32 master weights for half-precision parameters")


class Adam(_AdamArguments, _Regularized):
    """Adam."""

    name: Literal["Adam"]
    lazy_mode: Bool = Field(False, description="update only rows that have a gradient")


@with_keys(
    {"regularizer": unsupported("AdamW decays the weights themselves; give weight_decay instead", allowed=(None,))}
)
class AdamW(_AdamArguments, _Optimizer):
    """Adam with decoupled weight decay."""

    name: Literal["AdamW", "AdamWDL"]
    layerwise_decay: Optional[Annotated[Float, Field(gt=0, le=1)]] = Field(
        None, description="ratio of the learning rates of adjacent layers, towards the input"
    )


class _Layerwise(Section):
    layerwise_decay: Optional[Annotated[Float, Field(gt=0, le=1)]] = Field(
        None, description="ratio of the learning rates of adjacent layers, towards the input"
    )


@with_keys(
    {"regularizer": unsupported("Lamb decays the weights themselves; give weight_decay instead", allowed=(None,))}
)
class Lamb(_Layerwise, _Optimizer):
    """Adam with a step of each tensor in proportion to its norm, for large batches (You et al., arXiv 1904.00962)."""

    name: Literal["Lamb"]
    beta1: Share = Field(0.9, description="decay of the first moment")
    beta2: Share = Field(0.999, description="decay of the second moment")
    epsilon: Positive = Field(1e-6, description="added to the denominator")
    always_adapt: Bool = Field(False, description="scale the step of tensors without weight decay too")
    multi_precision: Bool = Field(False, description="float32 master weights for half-precision parameters")


class NAdam(_Layerwise, _Regularized):
    """Adam with Nesterov's momentum; Paddle 3."""

    name: Literal["NAdam"]
    beta1: Share = Field(0.9, description="decay of the first moment")
    beta2: Share = Field(0.999, description="decay of the second moment")
    epsilon: Positive = Field(1e-8, description="added to the denominator")
    momentum_decay: NotNegative = Field(0.004, description="decay of the momentum")


class RAdam(_Layerwise, _Regularized):
    """Adam whose variance of the first steps is rectified; Paddle 3."""

    name: Literal["RAdam"]
    beta1: Share = Field(0.9, description="decay of the first moment")
    beta2: Share = Field(0.999, description="decay of the second moment")
    epsilon: Positive = Field(1e-8, description="added to the denominator")


OptimizerSection = Annotated[
    Union[SGD, Momentum, RMSProp, Adam, AdamW, Lamb, NAdam, RAdam], Field(discriminator="name")
]
