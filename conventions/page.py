"""docs/conventions.md as it follows from docs/conventions.json."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from questions import SECTIONS

HEAD = """\
# Conventions of other libraries

What attention of other libraries does where they differ, run on small inputs on a CPU, and how to say the same to \
`regard.attention`: by its arguments, in which `seen` is True where a query may see a key, `mask` is the operator's \
own mask and `added` what it adds, or of its `weights`. Whole calls are converted by [`masks.from_torch`, \
`from_keras`, `from_jax`, `from_onnx` and `from_transformers`](reference/masks.md#calls-of-other-libraries); what \
Regard itself does is told in [Conventions](explanations/conventions.md). What is in no row of a table has no such \
argument; — stands beside what Regard does not do.

`make conventions` makes this page. Each line *in Regard* is compared with the operators beside it then, and again in \
the tests for the libraries that those install.
"""
BACKENDS = 3
NOTHING, PLAIN = "—", "as it is"


def page(results: dict[str, Any]) -> str:
    """Return the page."""
    answers: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    for found in results.values():
        versions |= found["versions"]
        for name, given in found["answers"].items():
            answers.setdefault(name, {}).update(given)
    parts = [HEAD]
    for heading, about, asked in SECTIONS:
        parts.append(f"## {heading}\n")
        parts += [f"{about}\n"] if about else []
        parts += [table(question.title, answers.get(f"{heading}: {question.title}", {})) for question in asked]
    told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return "\n".join([*parts, f"## Versions\n\n{told}.\n"])


def table(title: str, answers: dict[str, Any]) -> str:
    """Return each answer to a question, the most frequent first, with the operators that give it."""
    by_answer: dict[tuple[str, str | None], list[str]] = {}
    for operator, answer in answers.items():
        by_answer.setdefault((answer["said"], answer["same"]), []).append(operator)
    rows = sorted(by_answer.items(), key=lambda row: -len(row[1]))
    lines = [f"| {title} | in Regard | |", "|---|---|---|"]
    lines += [f"| {said} | {in_regard(said, same)} | {'; '.join(together(names))} |" for (said, same), names in rows]
    return "\n".join([*lines, ""])


def in_regard(said: str, same: str | None) -> str:
    if same is None:
        return "" if said == "refused" else NOTHING
    return f"`{same}`" if same else PLAIN


def together(names: Iterable[str]) -> list[str]:
    """The operators of each library; those that differ in Keras' backend or in ONNX's opset alone become one."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name in names:
        library, _, rest = name.partition(" ")
        library, _, backend = library.partition("/")
        first, opset, last = re.fullmatch(r"(opset )(\d+)(.*)", rest).groups() if library == "onnx" else ("", "", rest)
        found.setdefault(library, {}).setdefault((first, last), []).append(backend or opset)
    return [
        f"{library} {', '.join(joined(first, differing, last) for (first, last), differing in operators.items())}"
        for library, operators in found.items()
    ]


def joined(first: str, differing: list[str], last: str) -> str:
    """One name for several backends or opsets."""
    if first:
        return f"{first}{differing[0]}{last}" if len(differing) == 1 else f"{first[:-1]}s {', '.join(differing)}{last}"
    return last if len(differing) in (0, BACKENDS) or not differing[0] else f"{last} on {' and '.join(differing)}"
