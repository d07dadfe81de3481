"""`regard.explore`: a page of attention maps on this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from typing import Any

from regard.errors import UnsupportedError
from regard.exploring.atlas import Atlas
from regard.exploring.views import Bands, View, view_of


class Explorer:
    """A page that is served until it is closed.

    Attributes:
        address: where the page is, with its secret: whoever knows it, on this machine, sees the page.
        atlas: the maps.
    """

    def __init__(self, views: Sequence[View], port: int = 0, words: bool = False) -> None:
        try:
            from regard.exploring.server import Server
        except ModuleNotFoundError as error:
            raise UnsupportedError(
                f"explore: need Starlette and uvicorn; got an environment without {error.name}; pip install "
                "'regard[explore]'."
            ) from None
        self.atlas = Atlas(views, words=words)
        self._server = Server(self.atlas, port)
        self.address = self._server.address

    def wait(self) -> None:
        """Until somebody presses Ctrl-C."""
        self._server.wait()

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def widget(self, height: int = 720) -> Any:
        """The same page for a notebook's cell, whose questions go to the kernel, not to the server."""
        try:
            from regard.exploring.widget import Widget
        except ModuleNotFoundError as error:
            raise UnsupportedError(
                f"explore: need anywidget; got an environment without {error.name}; pip install 'regard[explore]'."
            ) from None
        return Widget(self.atlas, height)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget())

    def __repr__(self) -> str:
        return f"Explorer({self.address})"


def explore(
    given: Any, tokens: Sequence[str] | None = None, *, against: Any = None, example: int = 0, title: str = "",
    bands: Bands | None = None, words: bool = False, port: int = 0, browser: bool | None = None,
) -> Explorer:  # fmt: skip
    """Open a page on which every map of attention can be zoomed into, up to each weight.

    Args:
        given: Weights `(..., H, T, S)`; what `regard.watch` saw; or a model's `outputs.attentions`.
        tokens: One for each key, where queries are as many for each of them too.
        against: The same of another model, or of the same, for the same tokens.
        example: Of a batch.
        title: What the page calls it.
        bands: Parts of the tokens by what they are, such as `{"turns": [("question", 0, 12), ("answer", 12, 80)]}`:
            each a name, its first position and the one behind its last.
        words: Begin with words instead of their tokens, where tokens have their tokenizer's marks (`##`, `Ġ`, `▁`) or
            spaces: each cell is the sum over a word's keys of the mean over a word's queries. The page can change it.
        port: Default one that is free.
        browser: Whether to open a browser; default where there is a display.

    Returns:
        An `Explorer`: its `address`, `wait()` and `close()`.

    Raises:
        UnsupportedError: No weights.
        ShapeError: Tokens of another number than keys.
        OutOfRangeError: No such example, or bands beyond the tokens.
        ConfigError: The port is in use.
    """
    views = [view_of(given, tokens, example, title, bands)]
    if against is not None:
        views.append(view_of(against, tokens, example, f"{title} (against)".strip(), bands))
    explorer = Explorer(views, port, words)
    show(explorer.address, browser)
    return explorer


def show(address: str, browser: bool | None) -> bool:
    """Open the page in a browser where there is a display; return whether it was."""
    if browser is None:
        browser = sys.platform in ("darwin", "win32") or bool(
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
    return browser and webbrowser.open(address)
