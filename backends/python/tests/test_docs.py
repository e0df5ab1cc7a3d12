"""Runs every Python block of the documents, one document after another."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["backends/python/README.md", "docs/backends/python.md", "docs/backends/python-tutorial.md"]


@pytest.mark.parametrize("page", PAGES)
def test_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, names, ran = (ROOT / page).read_text(), {"__name__": "block"}, 0
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        code = match.group(1)
        if "torch" in code:
            pytest.importorskip("torch")
        # The blocks have the line numbers of the page.
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + code, page, "exec"), names)
        ran += 1
    assert ran
