"""Label lists, label files, lists of images, images and shards."""

import shutil

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from invariants import run
from mutations import damaged, text_lists

LABEL_LIST = ["0.png 0", "1.png 1", "2.png 2"]
NAMES = ["0 zero", "1 one", "2 two"]


def configured(workshop, command: str, *overrides: str) -> list:
    """Return the words of ``command`` on the valid configuration, written into a new folder."""
    place = workshop.place()
    config = place / "config.yaml"
    config.write_text(workshop.text, encoding="utf-8")
    weights = [] if command == "train" else [f"Global.pretrained_model={workshop.weights}"]
    return [command, "-c", config, "-o", *weights, *overrides]


@pytest.mark.parametrize("command", ["train", "eval"])
@given(content=text_lists(LABEL_LIST))
def test_a_changed_label_list(workshop, command, content):
    key = f"DataLoader.{command.capitalize()}.dataset.cls_label_path"
    arguments = configured(workshop, command, f"{key}=list.txt")
    place = arguments[2].parent
    (place / "list.txt").write_bytes(content)
    event(f"exit {run('label list', arguments, place).code}")


@pytest.mark.parametrize("command", ["infer", "export"])
@given(content=text_lists(NAMES))
def test_a_changed_label_file(workshop, command, content):
    arguments = configured(workshop, command, "Infer.PostProcess.class_id_map_file=names.txt")
    place = arguments[2].parent
    (place / "names.txt").write_bytes(content)
    event(f"exit {run('label file', arguments, place).code}")


@given(content=text_lists(["0.png", "1.jpg", "2.png"]))
def test_a_changed_list_of_images(workshop, content):
    place = workshop.place()
    for name in ("0.png", "1.jpg", "2.png"):
        shutil.copy(workshop.inputs / name, place)
    (place / "images.txt").write_bytes(content)
    arguments = ["predict", "--model_dir", workshop.export, "--infer_imgs", "images.txt", "--output", "out.json"]
    event(f"exit {run('prediction list', arguments, place).code}")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("command", ["predict", "eval"])
@given(data=st.data())
def test_a_damaged_image(workshop, suffix, command, data):
    content = data.draw(damaged((workshop.inputs / f"0.{suffix}").read_bytes()))
    if command == "eval":
        arguments = configured(
            workshop, "eval", "DataLoader.Eval.dataset.image_root=.", "DataLoader.Eval.dataset.cls_label_path=list.txt"
        )
        place = arguments[2].parent
        (place / "list.txt").write_text(f"image.{suffix} 0\n", encoding="utf-8")
    else:
        place = workshop.place()
        arguments = ["predict", "--model_dir", workshop.export, "--infer_imgs", f"image.{suffix}"]
    (place / f"image.{suffix}").write_bytes(content)
    event(f"exit {run(f'image ({suffix})', arguments, place).code}")


@pytest.mark.parametrize("suffix", ["", ".index"], ids=["tar", "index"])
@given(data=st.data())
def test_a_damaged_shard(workshop, suffix, data):
    name = "s-000000.tar"
    content = data.draw(damaged((workshop.shards / f"{name}{suffix}").read_bytes()))
    arguments = configured(
        workshop,
        "eval",
        f"DataLoader.Eval.dataset={{name: ShardDataset, shards: {name}, transform_ops: [{{DecodeImage: {{}}}}, "
        "{ResizeImage: {size: 32}}, {NormalizeImage: {order: ''}}]}",
    )
    place = arguments[2].parent
    for part in ("", ".index"):
        shutil.copy(workshop.shards / f"{name}{part}", place)
    (place / f"{name}{suffix}").write_bytes(content)
    event(f"read: exit {run('shard', arguments, place).code}")
    if not suffix:
        event(f"index: exit {run('shard', ['index-shards', name, '--quiet'], place).code}")
