"""How MkDocs builds what it does not know: notebooks become pages, formulas MathML, and each page says its version."""

from __future__ import annotations

import html
import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

SECONDS = 600  # that one cell may take
VERSION = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "version"
]
OTHER = re.compile(r"^(\[.*\]\(.*)\.ipynb\)$", re.MULTILINE)  # the line that leads to the other language
# Pictures with the words that the cell's metadata has for those who do not see them.
TEMPLATE = """{%- extends 'markdown/index.md.j2' -%}
{%- block data_png -%}
![{{ cell.metadata.alt }}]({{ output.metadata.filenames['image/png'] | path2url }})
{%- endblock data_png -%}
"""


def on_files(files: Any, config: Any) -> Any:
    """A page and its pictures for each notebook; the notebook itself stays, to be downloaded."""
    folder = Path(config.docs_dir)
    for notebook in sorted(folder.glob("notebooks/*.ipynb")):
        place = notebook.relative_to(folder).with_suffix("")
        text, pictures = executed(notebook, folder.parent)
        text = OTHER.sub(rf"\1.md) · [{notebook.name}]({notebook.name})", text, count=1)
        files.append(File.generated(config, f"{place}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{place.parent}/{name}", content=content))
    return files


def executed(notebook: Path, folder: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook's text and results as Markdown, and its pictures by name; a cell that fails raises."""
    cells = nbformat.read(notebook, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(cells, timeout=SECONDS, resources=where, coalesce_streams=True).execute()
    for cell in cells.cells:  # what libraries remark belongs to the terminal
        cell.outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    text, made = exporter.from_notebook_node(cells, {"unique_key": notebook.stem})
    return text, made["outputs"]


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw without a script and without a network; and below, for which version."""
    formula = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
    return f'{formula.sub(_mathml, content)}\n<p class="regard-version">For Regard {VERSION}.</p>\n'


def _mathml(found: re.Match[str]) -> str:
    return convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline")
