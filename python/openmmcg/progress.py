"""Progress of long works: a bar on a terminal and in a notebook, a line now and then in a log."""

from __future__ import annotations

import io
import sys
from time import monotonic
from typing import Any

from tqdm import tqdm as _bar

_SECONDS = 60.0  # between two lines of a log


class tqdm(_bar):  # noqa: N801
    """The bar of the package tqdm, with its arguments, that turns into lines where there is no terminal.

    Then a line is printed to stderr after each minute, and one at the end, except of bars that would be taken away
    (``leave=False``) within a minute.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        stream = options.get("file") or sys.stderr
        # A notebook's stream is no terminal, but shows bars.
        self._shows_bars = stream.isatty() or type(stream).__module__.startswith("ipykernel")
        self._lines, self._last_line, self._has_line = stream, monotonic(), False
        if not self._shows_bars:
            # What the base class writes by itself are the breaks between bars. ASCII, as a log's encoding is not known.
            options |= {"file": _Nowhere(), "ascii": True, "dynamic_ncols": False}
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the bar as it is now; in a log only where it is time for a line."""
        if self._shows_bars:
            return super().display(msg, pos)
        now = monotonic()
        if now - self._last_line >= _SECONDS:
            self._last_line = now
            self._print()
        return True

    def close(self) -> None:
        """End the bar; in a log with a line."""
        ends_with_line = not self._shows_bars and not self.disable and (self.leave or self._has_line)
        super().close()
        if ends_with_line:
            self._print()

    def _print(self) -> None:
        self._has_line = True
        self._lines.write(f"{self}\n")
        self._lines.flush()


class _Nowhere(io.StringIO):
    def write(self, text: str) -> int:
        return len(text)
