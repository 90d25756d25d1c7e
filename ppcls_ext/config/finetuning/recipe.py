"""The YAML file of a fine-tuning run: what the rules choose, each value with its reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterable, Mapping

from ppcls_ext.config.finetuning import rules
from ppcls_ext.config.finetuning.facts import DataFacts, MachineFacts, NetworkFacts, Wishes
from ppcls_ext.config.source import ConfigError, Source, apply_override
from ppcls_ext.config.writer import write_yaml

FILE = "finetune.yaml"


class Recipe:
    """A configuration with a reason beside values.

    Attributes:
        data: the sections.
        reasons: by path of keys and indices.
    """

    def __init__(self, data: dict, reasons: dict[tuple, str]):
        self.data, self.reasons = data, reasons

    def override(self, overrides: Iterable[str]) -> None:
        """Set ``a.b.c=value`` of the command line.

        Raises:
            ConfigError: if one cannot be applied.
        """
        source = Source(self.data, FILE)
        for text in overrides:
            apply_override(source, text)
        if source.problems:
            raise ConfigError(source.problems)
        for path in source.places:
            for below in [key for key in self.reasons if key[: len(path)] == path]:
                del self.reasons[below]
            self.reasons[path] = "as asked for with -o"

    def write(self, path: Path, header: Iterable[str]) -> None:
        """Write the YAML file."""
        write_yaml(path, self.data, lambda *keys: self.reasons.get(keys, ""), list(header))


def make_recipe(data: DataFacts, network: NetworkFacts, machine: MachineFacts, wishes: Wishes) -> Recipe:
    """Return the configuration that the rules choose; see :mod:`ppcls_ext.config.finetuning.rules`."""
    reasons: dict[tuple, str] = {}
    size = rules.image_size(data, network, wishes)
    batch = rules.batch_size(data, network, machine, wishes, size.value)
    length = rules.epochs(data, wishes, batch.value)
    content: dict[str, Any] = {
        "Global": _global(data, machine, wishes, size.value, length.value),
        **_half_precision(machine),
        "Arch": _arch(data, network, wishes, size.value),
        **_average(data, batch.value, length.value, reasons),
        "Loss": {"Train": [{"CELoss": {"weight": 1.0, "epsilon": 0.1}}], "Eval": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": _optimizer(network, wishes, length.value, reasons),
        "DataLoader": _loaders(data, network, machine, wishes, size.value, batch.value, reasons),
        "Infer": _infer(data, network, size.value),
        "Metric": {"Train": [{"TopkAcc": {"topk": _topk(data)}}], "Eval": [{"TopkAcc": {"topk": _topk(data)}}]},
    }
    chosen = rules.optimization(network, wishes).value
    content["Global"]["base_batch_size"] = chosen.base
    reasons.update(
        {
            ("Global", "output_dir"): "weights and logs",
            ("Global", "device"): "a GPU was found" if machine.device == "gpu" else "no GPU was found",
            ("Global", "save_interval"): "no epoch_N files; latest and best_model are written in any case",
            ("Global", "epochs"): length.why,
            ("Global", "image_shape"): size.why,
            ("Global", "save_inference_dir"): "the exported model",
            ("Global", "base_batch_size"): "the learning rates below are stated for it; another batch scales them",
            ("Arch", "class_num"): "lines of label_list.txt",
            ("Arch", "pretrained"): _origin_of_weights(wishes),
            ("Loss", "Train", 0, "CELoss", "epsilon"): "label smoothing",
            ("DataLoader", "Train", "sampler", "batch_size"): batch.why,
        }
    )
    if not wishes.pretrained and size.value != network.size:
        reasons["Arch", "img_size"] = "tables of positions and windows are made for it"
    return Recipe(content, reasons)


def _global(data: DataFacts, machine: MachineFacts, wishes: Wishes, size: int, length: int) -> dict:
    return {
        "pretrained_model": None,
        "output_dir": wishes.output,
        "device": machine.device,
        "save_interval": -1,
        "eval_during_train": True,
        "eval_interval": 1,
        "epochs": length,
        "print_batch_step": 10,
        "seed": wishes.seed,
        "image_shape": [3, size, size],
        "save_inference_dir": os.path.join(wishes.output, "inference"),
    }


def _half_precision(machine: MachineFacts) -> dict:
    return {"AMP": {"use_amp": True, "level": "O1"}} if machine.device == "gpu" else {}


def _arch(data: DataFacts, network: NetworkFacts, wishes: Wishes, size: int) -> dict:
    section: dict[str, Any] = {"name": network.name, "class_num": data.classes, "pretrained": wishes.pretrained}
    if network.has_img_size and size != network.size:
        section["img_size"] = size
    if network.has_drop_path:
        section["drop_path_rate"] = 0.1
    return section


def _origin_of_weights(wishes: Wishes) -> str:
    if wishes.pretrained is True:
        return "the published weights; the classifier is new"
    return "as asked for with --pretrained" if wishes.pretrained else "random weights, as asked for with --from_scratch"


def _average(data: DataFacts, batch: int, length: int, reasons: dict) -> dict:
    choice = rules.average(rules.steps_per_epoch(data, batch) * length)
    if choice is None:
        return {}
    reasons["EMA", "decay"] = choice.why
    return {"EMA": {"decay": choice.value, "warmup": True}}


def _optimizer(network: NetworkFacts, wishes: Wishes, length: int, reasons: dict) -> dict:
    chosen, why = rules.optimization(network, wishes)
    warmup = rules.warmup(length, bool(wishes.pretrained))
    reasons["Optimizer", "name"] = why
    reasons["Optimizer", "lr", "learning_rate"] = f"for {chosen.base} images a step, see Global.base_batch_size"
    reasons["Optimizer", "lr", "warmup_epoch"] = warmup.why
    section: dict[str, Any] = {"name": chosen.name}
    if chosen.name == "Momentum":
        section["momentum"] = 0.9
        section["regularizer"] = {"name": "L2", "coeff": chosen.weight_decay}
    else:
        section["weight_decay"] = chosen.weight_decay
        section["one_dim_param_no_weight_decay"] = True
    decay = rules.layer_decay(network, wishes, chosen.name)
    if decay is not None:
        section["layerwise_decay"] = decay.value
        reasons["Optimizer", "layerwise_decay"] = decay.why
    section["clip_global_norm"] = 5.0
    section["lr"] = {
        "name": "Cosine",
        "learning_rate": chosen.learning_rate,
        "eta_min": chosen.learning_rate / 100,
        "warmup_epoch": warmup.value,
        "warmup_start_lr": chosen.learning_rate / 100,
    }
    return section


def _loaders(
    data: DataFacts,
    network: NetworkFacts,
    machine: MachineFacts,
    wishes: Wishes,
    size: int,
    batch: int,
    reasons: dict,
) -> dict:
    where = ("DataLoader", "Train", "dataset")
    augmentation = rules.augmentation(data, wishes.flip, size, network.interpolation, network.backend)
    operators = [_decoding()]
    for operator, why in augmentation:
        (name,) = operator
        reasons[
            where
            + (
                "transform_ops",
                len(operators),
                name,
                next(iter(operator[name])),
            )
        ] = why
        operators.append(operator)
    operators.append(_normalisation(network))
    workers = rules.workers(data, machine)
    train = {
        "dataset": {**_dataset(data, "train"), "transform_ops": operators},
        "sampler": {
            "name": "DistributedBatchSampler",
            "batch_size": batch,
            "drop_last": data.train >= batch,
            "shuffle": True,
        },
        "loader": {"num_workers": workers.value, "use_shared_memory": True},
    }
    mixing = rules.mixing(data)
    if mixing is not None:
        train["dataset"]["batch_transform_ops"] = mixing.value
        reasons[
            where
            + (
                "batch_transform_ops",
                0,
                "OpSampler",
                "MixupOperator",
                "alpha",
            )
        ] = mixing.why
    if data.delimiter:
        reasons[where + ("delimiter",)] = "a tab, since paths hold blanks"
    reasons["DataLoader", "Train", "loader", "num_workers"] = workers.why
    evaluation = {
        "dataset": {
            **_dataset(data, "val"),
            "transform_ops": [_decoding(), *_centre(network, size), _normalisation(network)],
        },
        "sampler": {
            "name": "DistributedBatchSampler",
            "batch_size": batch,
            "drop_last": False,
            "shuffle": False,
        },
        "loader": {"num_workers": workers.value, "use_shared_memory": True},
    }
    return {"Train": train, "Eval": evaluation}


def _dataset(data: DataFacts, part: str) -> dict:
    section = {
        "name": "ImageNetDataset",
        "image_root": data.image_root,
        "cls_label_path": os.path.join(data.folder, f"{part}_list.txt"),
    }
    return {**section, "delimiter": data.delimiter} if data.delimiter else section


def _decoding() -> dict:
    return {"DecodeImage": {"to_rgb": True, "channel_first": False}}


def _centre(network: NetworkFacts, size: int) -> list[dict]:
    """Return resizing and cropping, in the proportion of the published figures."""
    resize = {
        "resize_short": round(network.resize_short * size / network.size),
        "interpolation": network.interpolation,
        "backend": network.backend,
    }
    return [{"ResizeImage": resize}, {"CropImage": {"size": size}}]


def _normalisation(network: NetworkFacts) -> dict:
    return {
        "NormalizeImage": {
            "scale": "1.0/255.0",
            "mean": list(network.mean),
            "std": list(network.std),
            "order": "",
        }
    }


def _infer(data: DataFacts, network: NetworkFacts, size: int) -> Mapping[str, Any]:
    return {
        "infer_imgs": data.image_root,
        "batch_size": 16,
        "transforms": [_decoding(), *_centre(network, size), _normalisation(network), {"ToCHWImage": None}],
        "PostProcess": {
            "name": "Topk",
            "topk": min(5, data.classes),
            "class_id_map_file": os.path.join(data.folder, "label_list.txt"),
        },
    }


def _topk(data: DataFacts) -> list[int]:
    return [1, 5] if data.classes > 5 else [1]
