"""Checkpoints: whole at every instant, damage named, the one before used."""

import hashlib
import json
import os
import signal

import numpy as np
import pytest
from faults import watched

from ppcls_ext.engine.train.checkpoint import CheckpointError, CheckpointStore, CheckpointWriteError, load_checkpoint


def state(step):
    return {"pdparams": {"w": np.full(64, step)}, "pdstates": {"step": step}}


def rewrite(prefix, suffix, data):
    """Put other bytes into a file of a checkpoint, and let the manifest vouch for them."""
    path = prefix.with_name(f"{prefix.name}.{suffix}")
    path.write_bytes(data)
    manifest = prefix.with_name(f"{prefix.name}.manifest.json")
    content = json.loads(manifest.read_text())
    content["files"][suffix] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest.write_text(json.dumps(content))


def content(checkpoint):
    """Return the step of a checkpoint, having seen that its files are of one save."""
    assert set(np.unique(checkpoint.parts["pdparams"]["w"])) == {checkpoint.parts["pdstates"]["step"]}
    return checkpoint.parts["pdstates"]["step"]


def save_in_child(folder, step, fatal=0):
    """Save in a forked process that is killed inside its ``fatal``-th file operation.

    Returns:
        (exit code, minus the signal if killed; the kinds of its operations).
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with watched(fatal) as operations:
            CheckpointStore(folder).save("latest", state(step), step)
        os.write(writer, " ".join(operations.kinds).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(status), text.split()


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir() if ".staged." in path.name or path.name.endswith(".tmp"))


@pytest.mark.slow
@pytest.mark.compat
def test_kill_inside_every_operation_of_a_save(tmp_path):
    """Defect 1: a kill inside any write, or at any rename, leaves a whole set, and so does one in the next save."""
    CheckpointStore(tmp_path / "count").save("latest", state(1), 1)
    code, kinds = save_in_child(tmp_path / "count", 2)
    calls = len(kinds)
    assert code == 0 and kinds.count("write") >= 3 and calls > 15
    for fatal in range(1, calls + 1):
        for second_fatal in (1, 2, 3, calls // 2, calls - 2, calls - 1):
            folder = tmp_path / f"{fatal}-{second_fatal}"
            CheckpointStore(folder).save("latest", state(1), 1)
            assert save_in_child(folder, 2, fatal)[0] == -signal.SIGKILL
            survivor = content(load_checkpoint(folder / "latest"))
            assert survivor in (1, 2)
            save_in_child(folder, 3, second_fatal)
            assert content(load_checkpoint(folder / "latest")) >= survivor, "a second kill lost what the first left"
            CheckpointStore(folder).save("latest", state(4), 4)
            assert content(load_checkpoint(folder / "latest")) == 4
            assert not leftovers(folder)


@pytest.mark.compat
def test_full_disk_at_every_write_of_a_save(tmp_path):
    """The error names file, reason and the checkpoint to go on from, which is whole; with space again, saving works."""
    store = CheckpointStore(tmp_path / "count")
    store.save("latest", state(1), 1)
    with watched() as operations:
        store.save("latest", state(2), 2)
    failing = [number for number, kind in enumerate(operations.kinds, 1) if kind in ("write", "fsync")]
    assert len(failing) > 8
    for fatal in failing:
        folder = tmp_path / str(fatal)
        store = CheckpointStore(folder)
        store.save("latest", state(1), 1)
        with watched(fatal, full_disk=True):
            with pytest.raises(CheckpointWriteError, match="cannot be written: .*No space left on device") as error:
                store.save("latest", state(2), 2)
        kept = content(load_checkpoint(folder / "latest"))
        assert kept in (1, 2)
        advice = f"the checkpoint of step {kept} is whole: resume from it with -o Global.checkpoints={folder}"
        assert advice in str(error.value)
        store.save("latest", state(3), 3)
        assert content(load_checkpoint(folder / "latest")) == 3
        assert not leftovers(folder)


def test_full_disk_before_there_is_any_checkpoint(tmp_path):
    with watched(1, full_disk=True):
        with pytest.raises(CheckpointWriteError, match="no checkpoint in .* is whole"):
            CheckpointStore(tmp_path).save("latest", state(1), 1)
    assert not leftovers(tmp_path)


#: Manifests that are no manifests, as bytes; ``{files}`` stands for the right entry.
BROKEN_MANIFESTS = {
    "empty": b"",
    "half": b'{"files": {"pdparams": {"sha',
    "not UTF-8": b'{"step": "\xff\xfe"}',
    "a list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "no files": b'{"step": 2}',
    "a path as suffix": b'{"step": 2, "files": {"../../x": {"sha256": "", "bytes": 1}}}',
    "no size": b'{"step": 2, "files": {"pdparams": {"sha256": "00"}}}',
    "huge step": b'{"files": {files}, "step": 1180591620717411303424}',
    "infinite step": b'{"files": {files}, "step": Infinity}',
    "step of text": b'{"files": {files}, "step": "2"}',
    "arguments of text": b'{"files": {files}, "step": 2, "arguments": "a"}',
    "names of numbers": b'{"files": {files}, "step": 2, "class_names": [1]}',
}


@pytest.mark.parametrize("kind", BROKEN_MANIFESTS)
def test_an_unreadable_manifest_is_named_and_no_set(tmp_path, caplog, kind):
    """At its place the set before it is used; staged, it is discarded with a warning, and the next save works."""
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save("latest", state(step), step)
    manifest = tmp_path / "latest.manifest.json"
    files = json.dumps(json.loads(manifest.read_text())["files"]).encode()
    data = BROKEN_MANIFESTS[kind].replace(b"{files}", files)
    manifest.write_bytes(data)
    with caplog.at_level("WARNING", logger="ppcls_ext"):
        assert content(load_checkpoint(tmp_path / "latest")) == 1
    assert f"{manifest} is damaged" in caplog.text
    (tmp_path / "latest.staged.manifest.json").write_bytes(data)
    (tmp_path / "latest.staged.pdparams").write_bytes(b"half")
    store.save("latest", state(3), 3)
    assert "latest.staged.manifest.json is damaged" in caplog.text and "discarded" in caplog.text
    assert content(load_checkpoint(tmp_path / "latest")) == 3 and not leftovers(tmp_path)
    for path in tmp_path.glob("*.manifest.json"):
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match="(?s)no whole checkpoint at .*manifest.json is damaged"):
        load_checkpoint(tmp_path / "latest")


def test_a_file_with_the_right_hash_that_is_no_data(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save("latest", state(step), step)
    rewrite(tmp_path / "latest", "pdstates", b"cos\nsystem\n(S'true'\ntR.")
    with caplog.at_level("WARNING", logger="ppcls_ext"):
        assert content(load_checkpoint(tmp_path / "latest")) == 1
    assert "latest.pdstates has the right SHA-256, but cannot be read" in caplog.text


def test_save_after_interrupted_move_keeps_the_newest(tmp_path):
    """A set left staged or half moved is brought home before the next save writes anything."""
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save("latest", state(step), step)
    # The state in the middle of step 3 of a save: one file home, the other and the manifest still staged.
    os.replace(tmp_path / "latest.pdstates", tmp_path / "latest.staged.pdstates")
    os.replace(tmp_path / "latest.manifest.json", tmp_path / "latest.staged.manifest.json")
    assert content(load_checkpoint(tmp_path / "latest")) == 2
    store._finish_interrupted(tmp_path / "latest")
    assert content(load_checkpoint(tmp_path / "latest")) == 2
    assert sorted(p.name for p in tmp_path.iterdir() if "staged" in p.name) == []
    assert json.loads((tmp_path / "latest.previous.manifest.json").read_text())["step"] == 1


@pytest.mark.parametrize("damage", ["flip a bit", "cut short", "delete"])
def test_damaged_file_is_named_and_the_previous_set_used(tmp_path, caplog, damage):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save("latest", state(step), step)
    victim = tmp_path / "latest.pdparams"
    data = bytearray(victim.read_bytes())
    if damage == "flip a bit":
        data[-20] ^= 1
        victim.write_bytes(data)
    elif damage == "cut short":
        victim.write_bytes(data[:-10])
    else:
        victim.unlink()
    with caplog.at_level("WARNING", logger="ppcls_ext"):
        assert content(load_checkpoint(tmp_path / "latest")) == 1
    assert "latest.pdparams" in caplog.text and "step 1" in caplog.text


def test_no_whole_set_is_an_error_that_lists_each(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save("latest", {"pdparams": {"w": np.ones(3)}}, 1)
    (tmp_path / "latest.pdparams").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"latest\.pdparams is damaged"):
        load_checkpoint(tmp_path / "latest")


def test_wrong_name_lists_what_is_there(tmp_path):
    CheckpointStore(tmp_path).save("epoch_3", {"pdparams": {"w": np.ones(3)}}, 1)
    with pytest.raises(CheckpointError, match="the folder holds epoch_3"):
        load_checkpoint(tmp_path / "latest")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "nowhere" / "latest")


@pytest.mark.parametrize("written", ["latest.pdparams", "latest.pdopt", "latest.pdstates", "latest.manifest.json", ""])
def test_any_file_and_the_folder_mean_the_checkpoint(tmp_path, written):
    """Trial 11: a file of a checkpoint means that checkpoint, the folder of a run its latest."""
    store = CheckpointStore(tmp_path)
    store.save("best_model", state(1), 1)
    store.save("latest", state(2), 2)
    assert content(load_checkpoint(f"{tmp_path}/{written}")) == 2
    assert content(load_checkpoint(f"{tmp_path}/{written}".rstrip("/"))) == 2
    assert content(load_checkpoint(tmp_path / "best_model.pdparams")) == 1


def test_a_folder_does_not_hide_a_checkpoint_of_its_name(tmp_path):
    """PaddleClas puts a folder best_model beside best_model.pdparams."""
    CheckpointStore(tmp_path).save("best_model", state(1), 1)
    (tmp_path / "best_model").mkdir()
    assert content(load_checkpoint(tmp_path / "best_model")) == 1


def test_class_names_are_in_the_manifest(tmp_path):
    CheckpointStore(tmp_path).save("latest", state(1), 1, class_names=("郁金香", "a rose"))
    assert load_checkpoint(tmp_path / "latest").info["class_names"] == ["郁金香", "a rose"]


def test_keep_last_epochs_counts_numerically(tmp_path):
    """Defect 7: epoch_10 is newer than epoch_9."""
    store = CheckpointStore(tmp_path)
    for epoch in (8, 9, 10, 11):
        store.save(f"epoch_{epoch}", {"pdparams": {"w": np.ones(1)}}, epoch)
    store.keep_last_epochs(2)
    assert sorted(p.name for p in tmp_path.glob("*.pdparams")) == ["epoch_10.pdparams", "epoch_11.pdparams"]
    assert not list(tmp_path.glob("epoch_8*"))
