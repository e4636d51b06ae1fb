"""One HTML file of text, tables and figures, complete in itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from openmmcg.state import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 2rem auto; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: left; }
th { border-bottom: 2px solid #888; } td.number { text-align: right; }
caption, figcaption { color: #555; font-size: .9rem; text-align: left; padding-top: .4rem; }
caption { caption-side: bottom; }
figure { margin: 1.2rem 0; } img { max-width: 100%; }
"""


class Report:
    """A report that grows from top to bottom and is written as one HTML file.

    The methods return the report, so that calls can be chained.

    Parameters
    ----------
    title : str

    Examples
    --------
    >>> import tempfile
    >>> report = Report("Coarse-grained water").section("Structure").text("At 300 K.")
    >>> report = report.table(["quantity", "CG", "all-atom"], [["first peak (Å)", 2.757, 2.761]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report.write(f"{folder}/report.html").read_text(encoding="utf-8")
    >>> "<td>first peak (Å)</td>" in page
    True
    """

    def __init__(self, title: str):
        self._title = title
        self._parts: list[str] = []

    def section(self, heading: str) -> Report:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(heading)}</h2>")
        return self

    def text(self, paragraph: str) -> Report:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{escape(paragraph)}</p>")
        return self

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Report:
        """Add a table; floats are shown with four significant digits or as whole numbers.

        Raises
        ------
        ValueError
            When a row has another number of entries than there are columns.
        """
        lines = ["<table>"]
        if caption:
            lines.append(f"<caption>{escape(caption)}</caption>")
        lines.append("<tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr>")
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"the row {list(row)} has {len(row)} entries, the table {len(columns)} columns")
            lines.append("<tr>" + "".join(_cell(value) for value in row) + "</tr>")
        lines.append("</table>")
        self._parts.append("\n".join(lines))
        return self

    def figure(self, figure: Figure, caption: str = "") -> Report:
        """Add a matplotlib figure, embedded as SVG as it is now; later changes to it do not show."""
        image = BytesIO()
        figure.savefig(image, format="svg")
        source = "data:image/svg+xml;base64," + base64.b64encode(image.getvalue()).decode("ascii")
        self._parts.append(
            f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        )
        return self

    def write(self, path: str | Path) -> Path:
        """Write the report, replacing an older one, and return its path.

        Raises
        ------
        OSError
            It could not be written; an older report is still there.
        """
        path, title = Path(path), escape(self._title)
        write_text(
            path,
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
            + "\n".join(self._parts)
            + "\n</body>\n</html>\n",
        )
        return path


def _cell(value: object) -> str:
    # bool is a number, but reads as a word.
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"<td>{escape(str(value))}</td>"
    if isinstance(value, Integral):
        digits = str(value)
    else:
        number = float(value)
        digits = f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"
    return f'<td class="number">{digits}</td>'
