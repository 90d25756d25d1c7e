"""Channels and sizes between the operators, the model and the export; what an ImageFolder and a label file say."""

import pytest
from config_sample import Sample

pytestmark = pytest.mark.compat


@pytest.fixture
def sample(tmp_path):
    return Sample(tmp_path)


@pytest.mark.parametrize("mode", ["train", "eval", "infer", "export"])
def test_a_model_for_grey_images_is_not_given_colour(sample, mode):
    """Trial 14: it was found by the first batch."""
    problem = sample.problem("Arch.name=ppcls_ext.Res2Net50_26w_4s", "Arch.in_channels=1", mode=mode)
    assert "Arch.in_channels: the operators of" in problem and "give images with 3 channels, but" in problem


@pytest.mark.parametrize("split", ["Train", "Eval"])
def test_a_fourth_channel_needs_a_model_that_takes_it(sample, split):
    override = f"DataLoader.{split}.dataset.transform_ops.2.NormalizeImage.channel_num=4"
    problem = sample.problem(override)
    assert f"DataLoader.{split}.dataset.transform_ops" in problem and "images with 4 channels" in problem


def test_the_shape_of_an_export_begins_with_the_channels(sample):
    problem = sample.problem("Global.image_shape=[16,16,3]", mode="export")
    assert "Global.image_shape: got [16, 16, 3]; expected [channels, height, width]" in problem


def test_another_size_than_evaluations_is_warned_of(sample):
    warnings = "\n".join(sample.load("Global.image_shape=[3,64,64]", mode="export").warnings)
    assert (
        "is 64x64 (width x height), but the operators of DataLoader.Eval.dataset.transform_ops give 32x32" in warnings
    )
    assert not sample.load("Global.image_shape=[3,32,32]", mode="export").warnings


def test_a_crop_beyond_the_resized_image(sample):
    sample.edit(lambda data: data["DataLoader"]["Eval"]["dataset"]["transform_ops"].append({"CropImage": {"size": 33}}))
    problem = sample.problem()
    assert "DataLoader.Eval.dataset.transform_ops.3.CropImage.size: size: the crop 33x33 is larger" in problem
    assert sample.path.name in problem


def folders(sample, split, *names):
    for name in names:
        (sample.folder / split / name).mkdir(parents=True)
        (sample.folder / split / name / "0.png").write_bytes((sample.folder / "0.png").read_bytes())
    key = f"DataLoader.{split}.dataset"
    return [f"{key}.name=ImageFolder", f"{key}.image_root={sample.folder}/{split}", f"{key}.cls_label_path=null"]


def test_a_class_folder_that_training_does_not_have(sample):
    overrides = [*folders(sample, "Train", "a", "b", "c"), *folders(sample, "Eval", "b", "c", "d")]
    for mode in ("train", "eval"):
        problem = sample.problem(*overrides, mode=mode)
        assert "does not know: d; the folders here are b, c, d, the classes of training are a, b, c" in problem


def test_a_label_file_that_contradicts_the_folders(sample):
    overrides = folders(sample, "Train", "a", "b", "c")
    labels = sample.folder / "labels.txt"
    labels.write_text("0 b\n1 a\n2 c\n")
    problem = sample.problem(*overrides, f"Infer.PostProcess.class_id_map_file={labels}")
    assert "calls class 0 'b', but by the folders it is 'a' and 'b' is class 1" in problem
    labels.write_text("0 Apfel\n1 Birne\n2 c\n")
    sample.load(*overrides, f"Infer.PostProcess.class_id_map_file={labels}")


@pytest.mark.parametrize("content", ["0 a\n0 b\n1 c\n", "0 a\n5 b\n2 c\n", "rose\n1 tulip\n2 x\n"])
def test_a_wrong_label_file_is_found_before_weights_are_loaded(sample, content):
    labels = sample.folder / "labels.txt"
    labels.write_text(content)
    problem = sample.problem(f"Infer.PostProcess.class_id_map_file={labels}", mode="infer")
    assert "Infer.PostProcess.class_id_map_file: " in problem and "labels.txt" in problem


def test_images_of_any_size_in_a_batch_are_warned_of(sample):
    def shorter_side_alone(data):
        data["DataLoader"]["Eval"]["dataset"]["transform_ops"][1] = {"ResizeImage": {"resize_short": 32}}

    sample.edit(shorter_side_alone)
    warnings = "\n".join(sample.load(mode="eval").warnings)
    assert "gives images of any size with a shorter side of 32; a batch needs one size" in warnings
    assert "one size" not in "\n".join(sample.load("DataLoader.Eval.sampler.batch_size=1", mode="eval").warnings)
