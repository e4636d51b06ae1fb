"""Every progress bar of the package can be silenced."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "python" / "openmmcg"


def test_every_progress_bar_can_be_silenced():
    bars = {
        f"{file.relative_to(PACKAGE)}:{node.lineno}": {keyword.arg for keyword in node.keywords}
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "tqdm"
    }
    loud = [place for place, options in bars.items() if "disable" not in options]
    assert bars and not loud, loud
