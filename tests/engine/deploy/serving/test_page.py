"""The example of the page works against a server."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_client_of_the_page(server, exported, capsys, language):
    page = (ROOT / "docs" / language / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", server.url).replace("dataset/digits", str(exported.digits))
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" [")[0] for line in lines[:3]] == ["one.png", "two.png", "image 0"]
    assert lines[3].startswith("image 1 no base64")
