"""The pictures of gallery.md, of reports and the explorer, from real runs. `make gallery` runs it; names choose some.

Those of LONGER are made only when they are named: they train for ten to twenty minutes on two cores.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copyfile, which
from typing import Any, NamedTuple

from PIL import Image, ImageChops

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"


class Shown(NamedTuple):
    """A program of examples/, what it is told, and which of the files that it leaves is shown."""

    program: str
    arguments: tuple[str, ...]
    picture: str


GALLERY = {
    "article": Shown("article.py", (), "attention.png"),
    "digits": Shown("digits/look.py", ("runs",), "runs/digits-look.png"),
    "entropy": Shown("sentiment/look.py", ("runs",), "runs/entropy.png"),
    "rollout": Shown("sentiment/look.py", ("runs",), "runs/rollout.png"),
    "lengths": Shown("keras/lengths.py", ("--output", "runs"), "runs/attention.png"),
    "accuracy": Shown("keras/lengths.py", ("--output", "runs"), "runs/accuracy.png"),
    "keras-text": Shown("keras/text.py", ("--output", "runs"), "runs/attention.png"),
    "keras-images": Shown("keras/images.py", ("--output", "runs"), "runs/attention.png"),
}


class Looked(NamedTuple):
    """An input shown to a model: programs that get data and model, the configuration that trains it, if one does."""

    programs: tuple[str, ...]
    configuration: str | None
    model: str
    input: str


LOOKED = {
    "speech-words": Looked(
        ("speech/get_model.py", "speech/get_prompts.py"), None, "data/speech/whisper-tiny.en",
        "data/prompts/asterisk-core-sounds-en-wav/agent-alreadyon.wav",
    ),
    "translation": Looked(
        ("translation/get_data.py",), "translation/translation.yaml", "runs/translation",
        "Select the text and click Save.",
    ),
    "objects": Looked(
        ("objects/get_data.py",), "objects/objects.yaml", "runs/objects", "data/objects/test/00001.png"
    ),
}  # fmt: skip
LONGER = ("translation", "objects")


class Page(NamedTuple):
    """A page of the demo's run: what is looked at, or the report; the part that is shown, and how high it is."""

    sentence: str | None
    section: str | None
    height: int


DEMO = ROOT / "runs" / "demo"
PAGES = {
    "report-top": Page(None, None, 1065),
    "report-attention": Page(
        "Not a masterpiece, but a warm, clever film that I would gladly see again.", "attention", 1600
    ),
}
WIDTH = 1100
EXPLORED = ("explore-map", "explore-deep")
"""A head of SmolLM2 over pages of this documentation, as docs/tutorials/find-an-induction-head.md tells."""
SMOLLM2 = ROOT / "data" / "smollm2" / "SmolLM2-135M-Instruct"
PAGES_READ = ("design", "lazy-weights", "way-of-a-query", "explanations/*")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000")


def draw(names: list[str]) -> None:
    """Run what is chosen, each program once, in a folder that is gone afterwards; data that are there are used."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (ROOT / "data").mkdir(exist_ok=True)
        (folder / "data").symlink_to(ROOT / "data")
        for shown in dict.fromkeys((GALLERY[name].program, GALLERY[name].arguments) for name in names):
            program, arguments = shown
            command = [sys.executable, str(ROOT / "examples" / program), *arguments]
            print("python examples/" + " ".join((program, *arguments)), flush=True)
            subprocess.run(command, cwd=folder, env={**os.environ, "MPLBACKEND": "Agg"}, check=True)
            for name in names:
                if GALLERY[name][:2] == shown:
                    copyfile(folder / GALLERY[name].picture, IMAGES / file(name))


def file(name: str) -> str:
    return f"{name}.png" if name.startswith("keras") else f"gallery-{name}.png"


def look(names: list[str]) -> None:
    """Show models their inputs; data and runs that are there are used, else they are made."""
    for name in names:
        programs, configuration, model, shown = LOOKED[name]
        for program in programs:
            subprocess.run([sys.executable, f"examples/{program}"], cwd=ROOT, check=True)
        if configuration and not (ROOT / model / "report.html").isfile():
            regard("finetune", f"examples/{configuration}")
        regard("look", model, shown, "--output", str(IMAGES / f"{name}.png"))


def photograph(names: list[str]) -> None:
    """Photograph pages of the demo's run in a browser; a run that is there is used, else it is made."""
    browser = found_browser()
    if not (DEMO / "report.html").isfile():
        subprocess.run([sys.executable, "examples/sentiment/get_data.py"], cwd=ROOT, check=True)
        regard("finetune", "examples/sentiment/demo.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            sentence, section, height = PAGES[name]
            page = Path(temporary) / f"{name}.html"
            if sentence is None:
                copyfile(DEMO / "report.html", page)
            else:
                regard("look", str(DEMO), sentence, "--output", str(page))
            if section:
                page.write_text(only(section, page.read_text(encoding="utf-8")), encoding="utf-8")
            place = f"--screenshot={page.with_suffix('.png')}"
            profile = f"--user-data-dir={Path(temporary) / 'profile'}"
            command = [browser, *QUIET, profile, f"--window-size={WIDTH},{height}", place, page.as_uri()]
            subprocess.run(command, check=True, capture_output=True)
            trimmed(Image.open(page.with_suffix(".png"))).save(IMAGES / f"{name}.png", optimize=True)


def explore(names: list[str]) -> None:
    """Walk through the tutorial in a browser, print what it tells, and keep its two views."""
    from playwright.sync_api import sync_playwright

    if not SMOLLM2.is_dir():
        subprocess.run([sys.executable, "examples/language/get_smollm2.py"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        pages = [path for name in PAGES_READ for path in sorted((ROOT / "docs").glob(f"{name}.md"))]
        text = b"".join(path.read_bytes() for path in pages)
        (Path(temporary) / "pages.md").write_bytes(text[:30_000])
        command = "from regard.cli import main; main()"
        arguments = ("explore", str(SMOLLM2), "pages.md", "--no-browser")
        serving = subprocess.Popen(
            [sys.executable, "-c", command, *arguments], cwd=temporary, stdout=subprocess.PIPE, text=True
        )
        try:
            address = serving.stdout.readline().split()[-1]
            browser = playwright.chromium.launch(executable_path=found_browser(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 860})
            page.goto(address)
            page.wait_for_selector('#grid[data-ready="yes"]', timeout=900_000)
            page.select_option("#sort", "distance")
            print(page.locator(".thumb").evaluate_all("(all) => all.slice(0, 8).map((each) => each.title).join('; ')"))
            page.click('[data-head="18.7"]')
            page.click("#strongest-go")
            page.wait_for_selector("#strongest button", timeout=300_000)
            page.wait_for_timeout(2000)
            photo(page, "explore-map")
            print(page.locator("#numbers").inner_text(), page.locator("#strongest").inner_text(), sep="\n\n")
            page.locator("#strongest button", has_text="choose").first.click()
            page.wait_for_timeout(2000)
            photo(page, "explore-deep")
            print(page.locator("#sentence").inner_text(), page.evaluate("explorer.maps[0].shown.shape"))
            browser.close()
        finally:
            serving.kill()


def photo(page: Any, name: str) -> None:
    """What a page shows, in few colours."""
    page.screenshot(path=IMAGES / f"{name}.png")
    Image.open(IMAGES / f"{name}.png").convert("RGB").quantize(256).save(IMAGES / f"{name}.png", optimize=True)


def found_browser() -> str:
    browser = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("gallery: need Chromium or Chrome for pictures of pages; found neither; install one.")
    return browser


def regard(*arguments: str) -> None:
    subprocess.run([sys.executable, "-c", "from regard.cli import main; main()", *arguments], cwd=ROOT, check=True)


def only(section: str, page: str) -> str:
    """A page of which one section is shown; its policy, which allows no other style than its own, is left out."""
    kept = f"section:not(#{section}):not(:has(#{section}))"
    beside = f"section:has(#{section}) > :not(#{section})"
    style = f"<style>header, nav, footer, {kept}, {beside} {{ display: none !important }}</style></head>"
    return re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", page).replace("</head>", style, 1)


def trimmed(picture: Image.Image) -> Image.Image:
    """Without the empty ground below what is shown, in few colours."""
    picture = picture.convert("RGB")
    ground = Image.new("RGB", picture.size, picture.getpixel((0, picture.height - 1)))
    box = ImageChops.difference(picture, ground).getbbox() or (0, 0, *picture.size)
    return picture.crop((0, 0, picture.width, min(picture.height, box[3] + 24))).quantize(256)


if __name__ == "__main__":
    asked = sys.argv[1:] or [name for name in (*GALLERY, *LOOKED, *PAGES, *EXPLORED) if name not in LONGER]
    if unknown := set(asked) - {*GALLERY, *LOOKED, *PAGES, *EXPLORED}:
        sys.exit(
            f"gallery: need names among {', '.join((*GALLERY, *LOOKED, *PAGES, *EXPLORED))}; got {', '.join(unknown)}."
        )
    for make, known in ((draw, GALLERY), (look, LOOKED), (photograph, PAGES), (explore, EXPLORED)):
        if chosen := [name for name in asked if name in known]:
            make(chosen)
