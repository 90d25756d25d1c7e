"""YAML, overrides and the places that values come from."""

import math
import os

import pytest

from ppcls_ext.config.source import ConfigError, apply_override, parse_value, read_yaml


def read(folder, text):
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E+4", -2e4),
        ("1.", 1.0),
        (".5", 0.5),
        ("12", 12),
        ("010", 10),
        ("0x1F", 31),
        (".inf", math.inf),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("1.0/255.0", "1.0/255.0"),
        ("None", None),
        ("null", None),
        ("~", None),
        ("", None),
        ("True", True),
        ("false", False),
        ("'None'", None),
        ('"True"', True),
        ("'1e-3'", "1e-3"),
        ("[1, 1e-8, None]", [1, 1e-8, None]),
        ("{a: 1e-3}", {"a": 1e-3}),
        ("http://host/a?b=1&c=2", "http://host/a?b=1&c=2"),
        ("=", "="),
        ("@weights", "@weights"),
        ("[1, 2", "[1, 2"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("max", "max"),
        ("!!python/name:os.system", "!!python/name:os.system"),
    ],
)
def test_value(text, value):
    """Values follow YAML with numbers as in version 1.2; nothing is evaluated."""
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_small_numbers_in_lists_are_numbers(tmp_path):
    """PyYAML reads 1e-3 as a string, and PaddleClas mends that in mappings only."""
    source = read(tmp_path, "a:\n  - {lr: 1e-3}\n  - [2e-5, '3']\n")
    assert source.data == {"a": [{"lr": 1e-3}, [2e-5, "3"]]}


def test_places(tmp_path):
    source = read(tmp_path, "a:\n  b: 1\n  c:\n    - x: 2\n    - 5\n")
    name = f"{tmp_path}/file.yaml"
    assert source.where(("a", "b")) == f"{name}:2"
    assert source.where(("a", "c", 0, "x")) == f"{name}:4"
    assert source.where(("a", "c", 1)) == f"{name}:5"
    assert source.where(("a", "missing")) == f"{name}:1"


def test_duplicate_keys_are_reported_with_both_lines(tmp_path):
    source = read(tmp_path, "a:\n  b: 1\n  c: 2\n  b: 3\na: 4\n")
    assert [str(problem).partition("file.yaml:")[2] for problem in source.problems] == [
        "4: a.b: the key is given twice, first in line 2",
        "5: a: the key is given twice, first in line 1",
    ]


def test_anchors_and_merges(tmp_path):
    source = read(tmp_path, "base: &base\n  x: 1\n  y: 2\nother:\n  <<: *base\n  y: 3\n")
    assert source.data["other"] == {"x": 1, "y": 3}
    assert source.where(("other", "x")).endswith(":2") and source.where(("other", "y")).endswith(":6")
    assert not source.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", r"file.yaml:2: not valid YAML"),
        ("a: &x [*x]\n", r"file.yaml:1: not valid YAML: an alias that contains itself"),
        ("a: !!python/object/apply:os.system [id]\n", r"file.yaml:1: .*python/object"),
        ("a: &x\n  <<: *x\n", r"file.yaml:1: not valid YAML: an alias that contains itself"),
        ("a:\n  b: !!int abc\n", r"file.yaml:2: not valid YAML: 'abc' cannot be read as int"),
        ("a: !!timestamp x\n", r"file.yaml:1: not valid YAML: 'x' cannot be read as timestamp"),
        ("a: !!bool x\n", r"file.yaml:1: not valid YAML: 'x' cannot be read as bool"),
        ("a: " + "9" * 400, r"file.yaml:1: .*an integer of 400 characters is beyond 64 bits"),
        ("a: 0x" + "f" * 20, r"file.yaml:1: .*beyond 64 bits"),
        ("a: " + "[" * 3000 + "]" * 3000, r"nest"),
        ("a: 'x\\0'\n".replace("'", '"'), r"file.yaml:1: .*null character"),
        ("".join(f"k{i}: 1\n" for i in range(20000)), r"file.yaml:10001: .*more than 10,000 values"),
        ("#" * 2**20 + "\n", r"has more than 1,048,576 bytes"),
        ("- a\n", r"expected sections such as Global and Arch, got \['a'\]"),
        ("", "expected sections such as Global and Arch, got None"),
    ],
    ids=[
        "syntax",
        "endless alias",
        "python object",
        "merged with itself",
        "no int",
        "no timestamp",
        "no bool",
        "400 digits",
        "beyond 64 bits",
        "deep",
        "null character",
        "20,000 keys",
        "1 MiB",
        "list",
        "empty",
    ],
)
def test_unusable_file(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_aliases_cannot_blow_up(tmp_path):
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(ConfigError, match="10,000 values, or grows so far through aliases"):
        read(tmp_path, text)


def test_what_is_no_regular_file_is_named(tmp_path):
    """Opening a named pipe would wait for a writer without end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="pipe.yaml is a named pipe; expected a regular file"):
        read_yaml(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="/dev/zero is a device"):
        read_yaml("/dev/zero")
    with pytest.raises(ConfigError, match=f"{tmp_path} is a folder"):
        read_yaml(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_bytes("a: 花".encode("gbk"))
    with pytest.raises(ConfigError, match=r"file.yaml is not UTF-8 \(byte 3: 0x"):
        read_yaml(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="absent.yaml: cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


# ---- overrides -------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    return read(tmp_path, "a:\n  b: 1\n  c:\n    - x: {size: 2}\n    - y:\nd: null\n")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("a.b=1e-3", ("a", "b"), 1e-3),
        (" a.b = 5 ", ("a", "b"), 5),
        ("a . b=5", ("a", "b"), 5),
        ("a.b=x=y==z", ("a", "b"), "x=y==z"),
        ("a.b=", ("a", "b"), None),
        ("a.c.0.x.size=176", ("a", "c", 0, "x", "size"), 176),
        ("a.c.1.y.k=[1, 2]", ("a", "c", 1, "y", "k"), [1, 2]),
        ("d.e.f=3", ("d", "e", "f"), 3),
        ("a.c.1=7", ("a", "c", 1), 7),
    ],
)
def test_override(source, override, path, value):
    apply_override(source, override)
    found = source.data
    for step in path:
        found = found[step]
    assert found == value and not source.problems
    assert source.where(path) == f"command line (-o {override})"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "expected key=value"),
        ("=3", "expected key=value"),
        ("a..b=3", "expected key=value"),
        ("a.b.z=3", "a.b is 1, which has no keys"),
        ("a.c.2.x=3", "a.c is a list of 2: expected an index from 0 to 1, got '2'"),
        ("a.c.x=3", "a.c is a list of 2: expected an index from 0 to 1, got 'x'"),
        ("a.c.-1=3", "a.c is a list of 2: expected an index"),
    ],
)
def test_override_that_fits_nowhere(source, override, message):
    apply_override(source, override)
    (problem,) = source.problems
    assert message in str(problem) and str(problem).startswith("command line (-o ")
    assert source.data["a"]["b"] == 1
