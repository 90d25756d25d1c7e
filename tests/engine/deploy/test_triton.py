"""The model repository for Triton: its configuration is a ``ModelConfig``, its model the graph that was exported."""

import copy

import numpy as np
import onnxruntime
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from ppcls_ext.config import load_config
from ppcls_ext.engine.deploy import triton
from ppcls_ext.engine.deploy.errors import ExportError
from ppcls_ext.engine.deploy.exporter import OnnxOptions, check_formats, export

#: Of Triton's published model_config.proto, what the file uses: message -> field -> (number, type, repeated).
FIELDS = {
    "ModelInput": {
        "name": (1, "string", False),
        "data_type": (2, "DataType", False),
        "format": (3, "Format", False),
        "dims": (4, "int64", True),
    },
    "ModelOutput": {
        "name": (1, "string", False),
        "data_type": (2, "DataType", False),
        "dims": (3, "int64", True),
        "label_filename": (4, "string", False),
    },
    "ModelDynamicBatching": {"max_queue_delay_microseconds": (2, "uint64", False)},
    "ModelConfig": {
        "name": (1, "string", False),
        "max_batch_size": (4, "int32", False),
        "input": (5, "ModelInput", True),
        "output": (6, "ModelOutput", True),
        "dynamic_batching": (11, "ModelDynamicBatching", False),
        "backend": (17, "string", False),
    },
}
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11},
    "Format": {"FORMAT_NONE": 0, "FORMAT_NHWC": 1, "FORMAT_NCHW": 2},
}


def model_config():
    """Return the class of a ``ModelConfig`` message."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in FIELDS or kind in ENUMS:
                added.type = kinds.TYPE_MESSAGE if kind in FIELDS else kinds.TYPE_ENUM
                added.type_name = f".inference.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.fixture
def exported_to_triton(trained, tmp_path):
    """Export with ``Global`` keys and options; return the folder and the parsed configuration."""

    def run(formats="triton", options=None, **keys):
        config = copy.deepcopy(trained.config)
        config["Global"].update(save_inference_dir=str(tmp_path / "inference"), output_dir=str(tmp_path / "log"))
        config["Global"].update(keys)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        folder = export(load_config(path, mode="export"), formats, options)
        (written,) = folder.glob("*/config.pbtxt")
        return folder, text_format.Parse(written.read_text(), model_config()())

    return run


@pytest.mark.compat
def test_the_repository(exported_to_triton):
    folder, config = exported_to_triton()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        *("inference.onnx", "inference.yml"),
        *(f"Sequencer2D_S/{name}" for name in ("config.pbtxt", "labels.txt", "1/model.onnx")),
    }
    repository = folder / "Sequencer2D_S"
    assert (repository / "1" / "model.onnx").read_bytes() == (folder / "inference.onnx").read_bytes()
    names = "zero one two three four five six seven eight nine".split()
    assert (repository / "labels.txt").read_text().splitlines() == names
    assert (config.name, config.backend, config.max_batch_size) == ("Sequencer2D_S", "onnxruntime", 32)
    assert config.dynamic_batching.max_queue_delay_microseconds == 3000
    (given,), (output,) = config.input, config.output
    assert (given.name, given.data_type, given.format) == ("x", ENUMS["DataType"]["TYPE_FP32"], 2)
    assert list(given.dims) == [3, -1, -1]
    assert (output.name, output.label_filename, list(output.dims)) == ("probabilities", "labels.txt", [10])
    session = onnxruntime.InferenceSession(str(repository / "1" / "model.onnx"))
    assert [one.name for one in session.get_inputs()] == ["x"]
    assert [one.name for one in session.get_outputs()] == ["probabilities"]


def test_other_outputs_bytes_and_a_new_name(exported_to_triton):
    exported_to_triton()
    options = OnnxOptions(outputs=["logits", "stages[1]"], uint8_input=True)
    folder, config = exported_to_triton(["triton"], options, pdx_model_name="digits")
    assert not (folder / "Sequencer2D_S").exists()  # the earlier repository
    (given,), (logits, stage) = config.input, config.output
    assert (config.name, given.data_type, given.format) == ("digits", ENUMS["DataType"]["TYPE_UINT8"], 1)
    assert list(given.dims) == [-1, -1, 3]
    assert (logits.label_filename, stage.label_filename) == ("labels.txt", "")
    session = onnxruntime.InferenceSession(str(folder / "digits" / "1" / "model.onnx"))
    results = session.run(None, {given.name: np.zeros((2, 16, 16, 3), np.uint8)})
    for result, output in zip(results, (logits, stage)):
        assert [size if dim > 0 else -1 for size, dim in zip(result.shape[1:], output.dims)] == list(output.dims)


def test_what_is_in_the_way_stays(exported_to_triton, tmp_path):
    (tmp_path / "inference" / "Sequencer2D_S").mkdir(parents=True)
    with pytest.raises(ExportError, match="Sequencer2D_S is in the way of the model repository"):
        exported_to_triton()
    triton.remove_repositories(tmp_path / "inference")
    assert (tmp_path / "inference" / "Sequencer2D_S").is_dir()


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "a b", ""])
def test_names_that_are_no_folders(tmp_path, name):
    with pytest.raises(ExportError, match="cannot be a folder of a model repository"):
        triton.check_place(tmp_path, name)


def test_triton_comes_with_onnx():
    assert check_formats("triton") == ["onnx", "triton"]
    assert check_formats(["triton", "onnx"], OnnxOptions()) == ["triton", "onnx"]
