"""The explorer inside a notebook: the same page, whose questions go to the kernel instead of a server."""

from __future__ import annotations

import re
from typing import Any

import anywidget
import traitlets

from regard.errors import RegardError
from regard.exploring.answers import about, answered, finite
from regard.exploring.atlas import Atlas
from regard.exploring.offline import MODULES, joined, page_text

_ASIDE = ("offline.js", "packed.js")  # of a page by itself
_OF_PAGES = re.compile(r"^(?:html, body|body|  html, body, #explorer) \{.*\}$\n?", re.MULTILINE)


def script() -> str:
    """The page's modules, Leaflet before them and a notebook's way to ask behind."""
    modules = joined([*(name for name in MODULES if name not in _ASIDE), "notebook.js"])
    return f"{page_text('leaflet.js')}\n{modules}\nexport default {{ render }};\n"


def style() -> str:
    """The page's style without what is of whole pages."""
    return page_text("leaflet.css") + _OF_PAGES.sub("", page_text("style.css"))


class Widget(anywidget.AnyWidget):
    """The explorer in a notebook's cell."""

    _esm = script()
    _css = style()
    facts = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(720).tag(sync=True)

    def __init__(self, atlas: Atlas, height: int = 720) -> None:
        self.atlas = atlas
        super().__init__(facts=finite(about(self.atlas)), height=height)
        self.on_msg(self._answer)

    def _answer(self, _: Any, asked: Any, buffers: Any) -> None:
        """Send the frames that answer a question, and say when it is answered, or why not."""
        number, told = asked.get("number"), None
        try:
            for frame in answered(self.atlas, str(asked.get("what")), asked.get("question") or {}, lambda: False):
                self.send({"number": number}, [frame[4:]])
        except RegardError as error:
            told = str(error)
        except (KeyError, TypeError, ValueError, AttributeError):
            told = "explore: need a question of the page's; got another; show the widget again."
        self.send({"number": number, "done": True, "error": told})
