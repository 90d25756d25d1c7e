"""Sections of the images: DataLoader and Infer."""

from __future__ import annotations

from typing import Annotated, Any, Dict, List, Literal, Optional, Union

from pydantic import Field

from ppcls_ext.config.schema.base import Bool, Float, Int, OneOf, Section, Text, ignored, unsupported, with_keys
from ppcls_ext.data.build import DATASETS, MAX_WORKERS, PADDLECLAS_ONLY_DATASETS, PADDLECLAS_ONLY_SAMPLERS, SAMPLERS
from ppcls_ext.data.sampler import MAX_REPEATS

POSTPROCESSORS_OF_PADDLECLAS = (
    "DistillationPostProcess MultiLabelThreshOutput PersonAttribute ScoreOutput TableAttribute ThreshOutput "
    "VehicleAttribute"
).split()

_SEMI_SUPERVISED = unsupported("semi-supervised training is not supported", allowed=(None,))
_CIFAR_OF_PADDLECLAS = {
    "download": unsupported(
        "training downloads nothing: fetch the archive by python tools/prepare_cifar.py and give its path as data_file"
    ),
    "backend": ignored("images come as they are in the archive, uint8"),
    **dict.fromkeys(
        ("sample_per_label", "transform_ops_weak", "transform_ops_strong", "transform_ops_strong2"), _SEMI_SUPERVISED
    ),
    "expand_labels": unsupported("semi-supervised training is not supported", allowed=(None, 1)),
}

Transforms = List[Dict[str, Any]]


class TokenLabelSection(Section):
    """A teacher's label map of each training image, and the model's tokens."""

    root: Text = Field(description="folder of the label maps, laid out like image_root")
    size: Annotated[Int, Field(ge=1, le=256)] = Field(description="tokens along one side of the model's last stage")
    class_target: Literal["teacher", "ground_truth", "blend"] = Field(
        "teacher", description="label of the whole image: the teacher's, the dataset's, or a blend of both"
    )


@with_keys(_CIFAR_OF_PADDLECLAS)
class Dataset(Section):
    """Images with labels, and what is done to an image."""

    name: Annotated[Text, OneOf("dataset", tuple(DATASETS), PADDLECLAS_ONLY_DATASETS)] = Field(
        "ImageNetDataset",
        description="ImageNetDataset: a list file; ImageFolder: one folder per class; Cifar10, Cifar100: the "
        "published archive; ShardDataset: tar files in WebDataset's layout; MultiScaleDataset: a list file whose "
        "images get the size of their batch",
    )
    image_root: Optional[Text] = Field(
        None, description="folder that relative paths start from; required by ImageNetDataset and ImageFolder"
    )
    cls_label_path: Optional[Text] = Field(None, description="list file: a path, the delimiter and a class id per line")
    delimiter: Optional[Text] = Field(None, description="between path and class id; unset: spaces, tabs or a comma")
    relabel: Optional[Bool] = Field(None, description="renumber the classes in the order of their ids in the list")
    class_id_map_file: Optional[Text] = Field(
        None,
        description="ImageFolder: a class id and a folder name per line; unset: folders in the order of their names",
    )
    token_label: Optional[TokenLabelSection] = Field(None, description="labels of tokens; training only")
    data_file: Optional[Text] = Field(None, description="Cifar10, Cifar100: the archive or its unpacked folder")
    mode: Optional[Literal["train", "test"]] = Field(None, description="Cifar10, Cifar100: which images")
    label_mode: Optional[Literal["fine", "coarse"]] = Field(
        None, description="Cifar100: its 100 classes or their 20 groups; unset: fine"
    )
    shards: Optional[Union[Text, List[Text]]] = Field(
        None, description="ShardDataset: one or more patterns such as train-{000000..000639}.tar"
    )
    num_samples: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="ShardDataset: expected number of samples; unset: the number found"
    )
    shuffle_buffer: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="ShardDataset: number of samples from which the next one is drawn; unset: 10000"
    )
    transform_ops: Transforms = Field([], description="operators in order, each Name: {arguments}")
    batch_transform_ops: Optional[Transforms] = Field(
        None, description="operators on batches (Mixup, CutMix, ...) in order; training only"
    )


@with_keys(
    dict.fromkeys(
        ("num_instances", "sample_per_id"),
        unsupported("an argument of a sampler of PaddleClas that is not supported", allowed=(None,)),
    )
)
class Sampler(Section):
    """The order of the samples; it depends on the seed and the epoch alone."""

    name: Annotated[Text, OneOf("sampler", tuple(SAMPLERS), PADDLECLAS_ONLY_SAMPLERS)] = Field(
        "DistributedBatchSampler",
        description="each process takes its share; RASampler repeats each image, MultiScaleSampler draws a size for "
        "each batch, ClassBalancedSampler draws each class alike, RepeatFactorSampler repeats images of rare classes "
        "(training only)",
    )
    batch_size: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="images per batch and process; required by all samplers but MultiScaleSampler"
    )
    shuffle: Optional[Bool] = Field(None, description="a new order each epoch; unset: in training only")
    drop_last: Bool = Field(False, description="leave out an incomplete last batch")
    num_repeats: Optional[Annotated[Int, Field(ge=1, le=MAX_REPEATS)]] = Field(
        None, description="RASampler: how many times an image occurs in a row; unset: 3"
    )
    repeat_threshold: Optional[Annotated[Float, Field(gt=0, le=1)]] = Field(
        None,
        description="RepeatFactorSampler: share of the images below which a class is repeated; required by it",
    )
    scales: Optional[List[Union[Int, List[Int]]]] = Field(
        None, description="MultiScaleSampler: sizes, each an integer or [width, height]"
    )
    first_bs: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None,
        description="MultiScaleSampler: images per batch and process at the first size; others have as many pixels",
    )
    divided_factor: Optional[Annotated[Int, Field(ge=1)]] = Field(
        None, description="MultiScaleSampler: sizes are rounded down to its multiples; unset: 32"
    )
    is_training: Optional[Bool] = Field(None, description="MultiScaleSampler: False: the first size alone; unset: True")


class Loader(Section):
    """How batches are made."""

    num_workers: Annotated[Int, Field(ge=0, le=MAX_WORKERS)] = Field(
        0, description="worker processes; 0: the training process itself"
    )
    use_shared_memory: Bool = Field(True, description="pass batches through shared memory")
    normalize_on_device: Bool = Field(
        False, description="send bytes to the device and run NormalizeImage there; it must be the last operator"
    )


@with_keys(
    {
        "Gallery": unsupported("retrieval is not supported", allowed=(None,)),
        "Query": unsupported("retrieval is not supported", allowed=(None,)),
        "UnLabelTrain": unsupported("semi-supervised training is not supported", allowed=(None,)),
    }
)
class DataSplit(Section):
    """One split."""

    dataset: Dataset = Field(description="the images")
    sampler: Sampler = Field(description="their order")
    loader: Loader = Field(default_factory=lambda: Loader.model_validate({}), description="how batches are made")


@with_keys({"UnLabelTrain": unsupported("semi-supervised training is not supported", allowed=(None,))})
class DataLoaderSection(Section):
    """The images of training and evaluation."""

    Train: Optional[DataSplit] = Field(None, description="training")
    Eval: Optional[DataSplit] = Field(None, description="evaluation")


@with_keys(
    {
        "func": ignored("an old spelling of name"),
        "threshold": unsupported("an argument of a postprocessor that is not supported", allowed=(None,)),
    }
)
class PostProcessSection(Section):
    """From scores to the prediction."""

    name: Annotated[Text, OneOf("postprocessor", ("Topk",), POSTPROCESSORS_OF_PADDLECLAS)] = Field(
        "Topk", description="the most probable classes"
    )
    topk: Annotated[Int, Field(ge=1)] = Field(
        5, description="number of classes to show; unset: at most the number of classes"
    )
    class_id_map_file: Optional[Text] = Field(
        None, description="label file: a class id and a name per line; imagenet1k: ImageNet's names"
    )
    delimiter: Optional[Text] = Field(None, description="between class id and name; unset: spaces, a comma or a colon")


class InferSection(Section):
    """Prediction on images without labels."""

    infer_imgs: Optional[Text] = Field(None, description="an image, a folder, or a text file with one image per line")
    infer_list: Optional[Text] = Field(None, description="text file with one image per line, relative to infer_imgs")
    batch_size: Annotated[Int, Field(ge=1)] = Field(1, description="images per batch")
    transforms: Transforms = Field([], description="operators in order, each Name: {arguments}")
    save_dir: Optional[Text] = Field(None, description="where to write the predictions as JSON")
    PostProcess: PostProcessSection = Field(
        default_factory=lambda: PostProcessSection.model_validate({}), description="from scores to the prediction"
    )
