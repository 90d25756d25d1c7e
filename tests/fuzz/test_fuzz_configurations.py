"""Configurations and overrides, through every command that takes them."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from invariants import run
from mutations import overrides, yaml_files

from ppcls_ext.config import load_config

COMMANDS = ("train", "eval", "infer", "export")
#: What a valid configuration may ask for, and these tests cannot wait for, and what they give instead.
_BOUNDED = {
    "Global.epochs": 2,
    "Global.iter_per_epoch": 4,
    "Global.update_freq": 8,
    "DataLoader.Train.loader.num_workers": 1,
    "DataLoader.Eval.loader.num_workers": 1,
    "DataLoader.Train.sampler.num_repeats": 4,
}


def bounds(path, given: list, mode: str) -> list:
    """Return overrides that keep a valid configuration small."""
    try:
        cfg = load_config(path, given, mode)
    except Exception:  # noqa: BLE001 - the command shows it
        return []
    more = []
    for key, most in _BOUNDED.items():
        *sections, last = key.split(".")
        if ((cfg.section(".".join(sections)) or {}).get(last) or 0) > most:
            more.append(f"{key}={most}")
    return more


def try_configuration(workshop, command: str, content: bytes, given: list, kind: str):
    """Write a configuration and run ``command`` with it."""
    place = workshop.place()
    path = place / "config.yaml"
    path.write_bytes(content)
    given = [*([] if command == "train" else [f"Global.pretrained_model={workshop.weights}"]), *given]
    given += bounds(path, given, command)
    arguments = [command, "-c", path, *(["-o", *given] if given else [])]
    outcome = run(kind, arguments, place)
    event(f"{command}: exit {outcome.code}")
    if outcome.code == 2:
        done = [path for path in place.rglob("*.*") if path.suffix not in (".log", ".lock", ".yaml")]
        assert not done, f"refused, but {done} was written: {outcome}"
    return outcome


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
def test_a_changed_configuration(workshop, command, data):
    content = data.draw(yaml_files(workshop.text))
    try_configuration(workshop, command, content, [], "configuration")


@pytest.mark.parametrize("command", COMMANDS)
@given(given=st.lists(overrides(), min_size=1, max_size=3))
def test_odd_overrides(workshop, command, given):
    try_configuration(workshop, command, workshop.text.encode(), given, "override")


@given(content=st.binary(max_size=200))
def test_bytes_as_a_configuration(workshop, content):
    assert try_configuration(workshop, "eval", content, [], "bytes").code == 2
