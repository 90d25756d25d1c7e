"""Write docs/*/models/comparison.md, and its pictures: all backbones side by side.

    python benchmarks/comparison_page.py

Accuracy, parameters and multiply-adds are the registry's, speed and memory those in benchmarks/results/families.json,
feature maps those of the networks that were measured. A test fails while a page differs.
"""

from __future__ import annotations

from pathlib import Path

from ppcls_ext import registry
from ppcls_ext.analysis.benchmark.caption import caption
from ppcls_ext.analysis.benchmark.columns import LANGUAGES
from ppcls_ext.analysis.benchmark.tables import markdown_table
from ppcls_ext.analysis.comparison.picture import draw
from ppcls_ext.analysis.comparison.rows import ModelRow, compare, read_report
from ppcls_ext.factory import create_backbone
from ppcls_ext.utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
#: In the order of LANGUAGES.
HEADS = {
    "models": (
        ["Model", "Family", "Size", "Top-1, %", "Top-5, %", "Params, M", "MACs, G", "Licence of the weights"],
        ["模型", "系列", "尺寸", "top-1，%", "top-5，%", "参数，M", "乘加，G", "权重的许可证"],
    ),
    "measured": (
        ["Model", "Top-1, %", "MACs, G", "Images/s", "Engine", "Batch", "Peak, MB", "Feature maps: channels (stride)"],
        ["模型", "top-1，%", "乘加，G", "图像/s", "引擎", "批大小", "峰值，MB", "特征图：通道数（步幅）"],
    ),
}
TEXT = {
    "en": """# All backbones side by side

[简体中文](../../zh_CN/models/comparison.md) | English

Written by `python benchmarks/comparison_page.py`. `ppcls_ext compare` and `ppcls_ext list` show the same in a terminal,
sorted and filtered:

```bash
ppcls_ext list --sort top1 --max_params 30M
ppcls_ext list --family SwinTransformer --min_top1 83
ppcls_ext compare 'sequencer2d_*' 'vit_*' --sort macs
ppcls_ext benchmark Sequencer2D_S ViT_S_16_224 --engine openvino --output benchmark
ppcls_ext compare Sequencer2D_S ViT_S_16_224 --measured benchmark/benchmark.json --output comparison
```

## Accuracy

Accuracies are **published** ones, on ImageNet-1k, at the size in the table; the pages of the families name their
sources. They come from different training recipes, and some models saw ImageNet-21k before.

![Published top-1 against multiply-adds, a marker for each family](../../figures/accuracy_macs.png)

## Speed and memory

Measured here: one variant of each family, the fastest engine and batch size of the
[benchmark](../benchmark.md#all-families).

![Published top-1 against measured throughput](../../figures/accuracy_speed.png)

{measured}

{caption}

## All variants

{models}
""",
    "zh_CN": """# 所有骨干网络对照

简体中文 | [English](../../en/models/comparison.md)

本页由 `python benchmarks/comparison_page.py` 生成。`ppcls_ext compare` 与 `ppcls_ext list` 在终端中显示同样的内容，可排序和筛选：

```bash
ppcls_ext list --sort top1 --max_params 30M
ppcls_ext list --family SwinTransformer --min_top1 83
ppcls_ext compare 'sequencer2d_*' 'vit_*' --sort macs
ppcls_ext benchmark Sequencer2D_S ViT_S_16_224 --engine openvino --output benchmark
ppcls_ext compare Sequencer2D_S ViT_S_16_224 --measured benchmark/benchmark.json --output comparison
```

## 精度

精度均为**公开的**数值，在 ImageNet-1k 上、以表中的尺寸测得，来源见各系列的页面。它们来自不同的训练配方，有些模型事先在 ImageNet-21k 上训练过。

![公开的 top-1 与乘加次数，每个系列一种标记](../../figures/accuracy_macs.png)

## 速度与内存

此处为实测：每个系列一个变体，取[性能测试](../benchmark.md)中最快的引擎与批大小。

![公开的 top-1 与实测的每秒图像数](../../figures/accuracy_speed.png)

{measured}

{caption}

## 全部变体

{models}
""",  # noqa: E501  # a paragraph of a Chinese page is one line
}


def page(language: str) -> str:
    """Return the page in a language."""
    report = read_report(ROOT / "benchmarks" / "results" / "families.json")
    rows = compare([spec.name for spec in registry.specs()], report)
    number = LANGUAGES.index(language)
    measured = [row for row in rows if row.images_per_second]
    return TEXT[language].format(
        measured=markdown_table(
            [HEADS["measured"][number], *map(_measured, measured)], [False, True, True, True, False, True, True, False]
        ),
        caption="\n".join(f"- {line}" for line in caption(report, language)),
        models=markdown_table([HEADS["models"][number], *map(_model, rows)], [False, False, *[True] * 5, False]),
    )


def _model(row: ModelRow) -> list[str]:
    cells = [row.name, row.family, str(row.size), _percent(row.top1), _percent(row.top5)]
    return [*cells, f"{row.params / 1e6:.2f}", f"{row.macs / 1e9:.2f}", row.licence or "-"]


def _measured(row: ModelRow) -> list[str]:
    features = ", ".join(f"{item['channels']} ({item['stride']})" for item in create_backbone(row.name).feature_info)
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:g}"
    return [
        *(row.name, _percent(row.top1), f"{row.macs / 1e9:.2f}", f"{row.images_per_second:g}"),
        *(row.engine, str(row.batch), peak, features),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    """Write the pages and the pictures."""
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "models" / "comparison.md"
        text = page(language)
        write_atomically(path, lambda aside, text=text: aside.write_text(text, encoding="utf-8"))
    report = read_report(ROOT / "benchmarks" / "results" / "families.json")
    draw(compare([spec.name for spec in registry.specs()], report), FIGURES, caption(report, "en")[0])


if __name__ == "__main__":
    main()
