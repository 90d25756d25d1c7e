"""Checkpoints: whole at every instant, damage named, the one before used."""

import json
import os
import signal

import numpy as np
import pytest
from kill_and_resume import die_at_call

from ppcls_ext.engine.train.checkpoint import CheckpointError, CheckpointStore, load_checkpoint


def state(step):
    return {"pdparams": {"w": np.full(64, step)}, "pdstates": {"step": step}}


def content(checkpoint):
    """Return the step of a checkpoint, having seen that its files are of one save."""
    assert set(np.unique(checkpoint.parts["pdparams"]["w"])) == {checkpoint.parts["pdstates"]["step"]}
    return checkpoint.parts["pdstates"]["step"]


def save_in_child(folder, step, fatal=0):
    """Save in a forked process that kills itself at its ``fatal``-th call that changes the folder.

    Returns:
        (exit code, minus the signal if killed; number of such calls).
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        calls = die_at_call(fatal)
        CheckpointStore(folder).save("latest", state(step), step)
        os.write(writer, str(calls()).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(status), int(text or 0)


def test_kill_at_every_call_of_a_save(tmp_path):
    """Defect 1: a kill at any call of a save leaves a whole set, and so does a second kill in the save after it."""
    CheckpointStore(tmp_path / "count").save("latest", state(1), 1)
    code, calls = save_in_child(tmp_path / "count", 2)
    assert code == 0 and calls > 10
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
            assert not list(folder.glob("*.staged.*"))


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


def test_suffix_may_be_written(tmp_path):
    CheckpointStore(tmp_path).save("latest", {"pdparams": {"w": np.ones(3)}}, 1)
    assert load_checkpoint(tmp_path / "latest.pdparams").info["step"] == 1


def test_keep_last_epochs_counts_numerically(tmp_path):
    """Defect 7: epoch_10 is newer than epoch_9."""
    store = CheckpointStore(tmp_path)
    for epoch in (8, 9, 10, 11):
        store.save(f"epoch_{epoch}", {"pdparams": {"w": np.ones(1)}}, epoch)
    store.keep_last_epochs(2)
    assert sorted(p.name for p in tmp_path.glob("*.pdparams")) == ["epoch_10.pdparams", "epoch_11.pdparams"]
    assert not list(tmp_path.glob("epoch_8*"))
