"""A page of HTML in one file: styles, pictures and the few lines of script are in it, and nothing is fetched."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence

from ppcls_ext.analysis.report.thumbnails import Thumbnail
from ppcls_ext.data.text_files import printable
from ppcls_ext.utils.files import write_atomically

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", sans-serif;
       max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.25rem; border-bottom: 1px solid #8886; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem; border-bottom: 1px solid #8883; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } th.sortable { cursor: pointer; }
.scroll { max-height: 28rem; overflow: auto; display: inline-block; max-width: 100%; }
img.picture { max-width: 100%; background: white; }
.images { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; width: 116px; font-size: 12px; }
figure img, figure .none { width: 112px; height: 112px; object-fit: contain; background: #8882; }
figure img.small { image-rendering: pixelated; }
figure .none { display: block; padding: .4rem; box-sizing: border-box; }
figcaption { overflow-wrap: anywhere; } .wrong { color: #c53030; } .right { color: #2f855a; }
details { margin: .4rem 0; } summary { cursor: pointer; } .note { opacity: .75; }
"""
_SCRIPT = """
document.querySelectorAll("th.sortable").forEach(function (head) {
  head.addEventListener("click", function () {
    var body = head.closest("table").tBodies[0], place = head.cellIndex, up = head.dataset.up !== "1";
    head.dataset.up = up ? "1" : "0";
    Array.from(body.rows).sort(function (a, b) {
      var x = a.cells[place].textContent, y = b.cells[place].textContent;
      var order = isNaN(x - y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
document.body.dataset.ready = "1";
"""


def text(value: object) -> str:
    """Return a value as HTML shows it; whatever a name holds, it is text."""
    return escape(printable(str(value)))


class Page:
    """A page that is being put together.

    Args:
        title: of the page.
    """

    def __init__(self, title: str):
        self._title = title
        self._parts: list[str] = [f"<h1>{text(title)}</h1>"]

    def heading(self, words: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{text(words)}</h2>")

    def note(self, words: str) -> None:
        """Add a sentence."""
        self._parts.append(f'<p class="note">{text(words)}</p>')

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> None:
        """Add a table; a click on a head sorts it, and ``numbers`` are the columns that are aligned right."""
        kinds = ["n" if place in numbers else "" for place in range(len(header))]
        head = "".join(f'<th class="sortable {kind}">{text(cell)}</th>' for kind, cell in zip(kinds, header))
        body = "".join(
            "<tr>" + "".join(f'<td class="{kind}">{text(cell)}</td>' for kind, cell in zip(kinds, row)) + "</tr>"
            for row in rows
        )
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def picture(self, path: Path, description: str) -> None:
        """Add a PNG file."""
        self._parts.append(f'<p><img class="picture" src="{_data(path.read_bytes())}" alt="{text(description)}"></p>')

    def images(
        self, images: Iterable[tuple[Thumbnail, str, Sequence[str], Optional[bool]]], fold: Optional[str] = None
    ) -> None:
        """Add small pictures, each (picture, file, lines under it, whether the prediction is right).

        Args:
            images: what to show.
            fold: a line that opens them; None shows them at once.
        """
        figures = "".join(_figure(*image) for image in images)
        block = f'<div class="images">{figures}</div>'
        if fold is not None:
            block = f"<details><summary>{text(fold)}</summary>{block}</details>"
        self._parts.append(block)

    def write(self, path: Path) -> None:
        """Write the page."""
        body = "\n".join(self._parts)
        page = (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(self._title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
            f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
        )
        write_atomically(path, lambda aside: aside.write_text(page, encoding="utf-8"))


def _figure(thumbnail: Thumbnail, file: str, lines: Sequence[str], right: Optional[bool]) -> str:
    if thumbnail.image is None:
        shown = f'<span class="none">not readable: {text(thumbnail.reason)}</span>'
    else:
        kind = ' class="small"' if max(thumbnail.image.size) < 64 else ""
        shown = f'<img{kind} src="{_data(thumbnail.png())}" alt="{text(file)}">'
    colour = {None: "", True: "right", False: "wrong"}[right]
    caption = "<br>".join(text(line) for line in lines)
    return f'<figure title="{text(file)}">{shown}<figcaption class="{colour}">{caption}</figcaption></figure>'


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
