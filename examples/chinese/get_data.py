"""Fetch Chinese texts: LibreOffice's help beside the English, and what Debian's packages say of themselves.

They are in Debian's packages `libreoffice-help-en-us` and `libreoffice-help-zh-cn` (MPL-2.0) and in its package index
in English and Chinese, which are downloaded and unpacked here without root; nothing is installed. Without `apt-get`
and `dpkg-deb`, take tables of your own.

    python examples/chinese/get_data.py [FOLDER]        # default: data/chinese

writes, each as `train`, `validation` and `test`, `pairs-*.tsv` (en, zh), `summaries-*.jsonl` (text, summary) and
`help-*.csv` (text, program, page); `summaries-traditional.jsonl`, and all texts to learn from as `texts.jsonl`.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
from _descriptions import Package, index, packages
from _help import CHINESE, ENGLISH, paragraphs
from _packages import from_debian

PROGRAMS = {
    "swriter": "文字处理",
    "scalc": "电子表格",
    "simpress": "演示文稿",
    "sdraw": "绘图",
    "smath": "公式",
    "schart": "图表",
    "sbasic": "Basic 编程",
}
"""Folders of the help -> what the programs are for."""
SIZES = {"test": 1000, "validation": 500}  # the rest is for training
SUMMARIES = {"test": 250, "validation": 100}
ENGLISH_WORDS, CHINESE_SIGNS = range(3, 41), range(2, 101)
"""How long the sides of a pair may be."""
SEED = 7
HAN = re.compile("[\u4e00-\u9fff]")
WIDE = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
NEEDLESS = re.compile(f"(?<=[{WIDE}]) | (?=[{WIDE}])")
"""Spaces beside Chinese characters, where lines were joined."""

Texts = dict[tuple[str, str], str]


def main(folder: Path) -> None:
    elsewhere = "use texts of your own instead."
    english, chinese = (
        paragraphs(from_debian(package, inside, sha256, folder, elsewhere))
        for package, inside, sha256 in (ENGLISH, CHINESE)
    )
    told = {code: dict(packages(index(folder, code), code)) for code in ("en", "zh_CN", "zh_TW")}
    simplified, traditional = map(list, (told["zh_CN"].values(), told["zh_TW"].values()))
    summaries = dealt(fitting([summary_of(each) for each in simplified]), SUMMARIES, related)
    summaries["train"] += headings(chinese)
    write_all(folder, "summaries", ".jsonl", ["text", "summary"], summaries)
    rows = [summary_of(each) for each in traditional]
    write(folder / "summaries-traditional.jsonl", ["text", "summary"], fitting(rows))
    kept = {mark for part in SUMMARIES for row in summaries[part] for mark in related(row)}
    pairs = fitting_pairs([*aligned(english, chinese), *described(told["en"], told["zh_CN"])])
    pairs = [pair for pair in pairs if likeness(pair[1]) not in kept]  # summaries begin with the model of the pairs
    write_all(folder, "pairs", ".tsv", ["en", "zh"], dealt(pairs, SIZES, lambda pair: [pair]))
    labelled = dealt(programs(chinese), SIZES, lambda row: [row[2]])
    write_all(folder, "help", ".csv", ["text", "program", "page"], labelled)
    held_out = {likeness(row[0]) for part in ("test", "validation") for row in labelled[part]}
    texts = [text for text in chinese.values() if HAN.search(text) and likeness(text) not in held_out]
    texts += [row[0] for row in summaries["train"]]
    write(folder / "texts.jsonl", ["text"], [[text] for text in unlike(texts)])


def likeness(text: str) -> str:
    """What texts share that differ in case, digits and punctuation alone."""
    return re.sub(r"[\W\d_]+", "", text).casefold()


def unlike(texts: Iterable[str]) -> list[str]:
    """The first of those that are alike, of at least eight signs."""
    return list({likeness(text): text for text in reversed(list(texts)) if len(text) >= 8}.values())[::-1]


def aligned(english: Texts, chinese: Texts) -> list[tuple[str, str]]:
    """Paragraphs of the help with the same number."""
    return [(english[key], chinese[key]) for key in sorted(english.keys() & chinese.keys())]


def described(english: dict[str, Package], chinese: dict[str, Package]) -> list[tuple[str, str]]:
    """Synopses and paragraphs of descriptions with as many in both languages."""
    found = []
    for key in sorted(english.keys() & chinese.keys()):
        (one, ones), (other, others) = english[key], chinese[key]
        found.append((one, other))
        if len(ones) == len(others):
            found += zip(ones, map(unspaced, others), strict=True)
    return found


def unspaced(text: str) -> str:
    return NEEDLESS.sub("", text)


def fitting_pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what is short, long or not translated, and all that is on either side like something before."""
    seen: set[tuple[int, str]] = set()
    kept = []
    for pair in pairs:
        keys = {(side, likeness(text)) for side, text in enumerate(pair)}
        fits = len(pair[0].split()) in ENGLISH_WORDS and len(pair[1]) in CHINESE_SIGNS and HAN.search(pair[1])
        if fits and not keys & seen:
            seen |= keys
            kept.append(pair)
    return kept


def summary_of(package: Package) -> list[str]:
    """A description, and the line that sums it up."""
    synopsis, blocks = package
    return ["\n".join(map(unspaced, blocks)), unspaced(synopsis)]


def fitting(rows: Iterable[list[str]]) -> list[list[str]]:
    """Descriptions of 30 to 300 signs, with a line of at least four."""
    return [row for row in rows if 30 <= len(row[0]) <= 300 and len(row[1]) >= 4 and all(map(HAN.search, row))]


def related(row: Sequence[str]) -> list[str]:
    """What makes relatives of descriptions that share it: a paragraph of twelve signs, or the line."""
    return [likeness(row[1]), *(likeness(text) for text in row[0].split("\n") if len(text) >= 12)]


def headings(chinese: Texts) -> list[list[str]]:
    """Headings of the help, as summaries of the paragraph below them."""
    found, keys = [], list(chinese)
    for (page, number), (other, below) in pairwise(keys):
        if page == other and number.startswith("hd_") and below.startswith("par_"):
            found.append([chinese[other, below], chinese[page, number]])
    return list({likeness(row[0]): row for row in fitting(found)}.values())


def programs(chinese: Texts) -> list[list[str]]:
    """Paragraphs with what their program is for; those that several programs' help has are left out."""
    homes = defaultdict(set)
    for (page, _), text in chinese.items():
        homes[likeness(text)].add(page.split("/")[0])
    rows = {
        likeness(text): [text, PROGRAMS[page.split("/")[0]], page]
        for (page, _), text in chinese.items()
        if page.split("/")[0] in PROGRAMS and len(homes[likeness(text)]) == 1
    }
    return [row for row in rows.values() if len(row[0]) >= 12 and HAN.search(row[0])]


def dealt(rows: Sequence[Any], sizes: dict[str, int], marks: Callable[[Any], list[Any]]) -> dict[str, list[Any]]:
    """Shuffle with a fixed seed and deal out; rows that share a mark, or one with a row between, stay together."""
    home: dict[Any, int] = {}
    groups: dict[int, list[Any]] = {}
    for number, row in enumerate(rows):
        shared = {home[mark] for mark in marks(row) if mark in home}
        groups[number] = [row, *(each for other in sorted(shared) for each in groups.pop(other))]
        home = {mark: number if place in shared else place for mark, place in home.items()} if shared else home
        home |= dict.fromkeys(marks(row), number)
    order = list(groups.values())
    random.Random(SEED).shuffle(order)
    parts: dict[str, list[Any]] = {name: [] for name in (*sizes, "train")}
    for group in order:
        name = next((name for name, size in sizes.items() if len(parts[name]) + len(group) <= size), "train")
        parts[name] += group
    return parts


def write_all(folder: Path, name: str, suffix: str, columns: list[str], parts: dict[str, list[Any]]) -> None:
    for part, rows in parts.items():
        write(folder / f"{name}-{part}{suffix}", columns, rows)


def write(path: Path, columns: list[str], rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(dict(zip(columns, r, strict=True)), ensure_ascii=False) + "\n" for r in rows)
        else:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([columns, *rows])
    labels = Counter(row[1] for row in rows) if "program" in columns else {}
    print(f"{path}: {len(rows)} rows", *(f"{label} {count}" for label, count in labels.items()))


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/chinese"]))
