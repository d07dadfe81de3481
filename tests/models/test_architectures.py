"""The tool behind docs/architectures.md: a sample of its rows again, and that it finds what is wrong."""

from pathlib import Path

import pytest
import torch
from transformers.utils import logging

import regard.models.transformers as interface

ROOT = Path(__file__).parents[2]
SAMPLE = 40


@pytest.fixture(autouse=True)
def _tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "architectures"))
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def compared(model_type):
    import compare
    import table

    row = compare.compare(model_type)
    return row, [table.verdict(row, way)[0] for way in table.WAYS]


def written():
    """Verdicts of the page, by architecture."""
    rows = [line.split(" | ") for line in (ROOT / "docs" / "architectures.md").read_text().splitlines()]
    rows = [row for row in rows if len(row) == 5 and not row[0].startswith(("| architecture", "|---"))]
    return {row[0].removeprefix("| "): [cell.removesuffix(" |").split(":")[0] for cell in row[3:]] for row in rows}


@pytest.mark.parametrize(
    ("model_type", "verdicts"),
    [
        ("llama", ["exact", "exact"]),
        ("gpt_oss", ["refused", "exact"]),
        ("deberta", ["refused", "none"]),
        pytest.param(  # layers of different numbers of heads
            "dots3_note_text", ["exact", "exact"], marks=pytest.mark.slow
        ),
        ("inkling2_text", ["partial", "exact"]),
    ],
)
def test_verdicts(model_type, verdicts):
    assert compared(model_type)[1] == verdicts


def test_no_attention_is_told_from_one():
    assert compared("mamba")[0]["attention"] is False


def test_weights_that_are_wrong_are_found(monkeypatch):
    attend = interface.attend

    def sharper(module, query, *rest, **keywords):
        return attend(module, 1.01 * query, *rest, **keywords)

    monkeypatch.setattr(interface, "attend", sharper)
    row, verdicts = compared("bert")
    assert verdicts == ["exact", "wrong"]
    assert "differ by" in row["regard"]["right"][1]


def test_attentions_that_were_not_seen_are_found(monkeypatch):
    import regard

    class Forgetful(regard.watch):
        def __enter__(self):
            seen = super().__enter__()
            append = seen.append
            seen.append = lambda name, *rest: None if "layer.1" in name else append(name, *rest)
            return seen

    monkeypatch.setattr(regard, "watch", Forgetful)
    row, verdicts = compared("bert")
    assert verdicts[0] == "partial"
    assert "not told: encoder.layer.1" in row["watch"]["right"][1]


@pytest.mark.parametrize(
    "model_type",
    [
        "levit",  # whose widths are tied to one another: they stay
        "depth_anything",  # as many layers as the neck takes features of
        "blt",  # whose configuration lacks what generation asks it for
        "kyutai_speech_to_text",  # a number for each codebook at each place
        "minicpm_ocr_vision",  # what it takes beside pictures is known by its name
    ],
)
def test_small_models(model_type):
    from case import Case, run

    case = Case(model_type, "right")
    assert all(torch.equal(*pair) for pair in zip(*(_weights(case.make(None)) for _ in range(2)), strict=True))
    run(case.make("eager"), case.inputs)


def _weights(model):
    return [*model.parameters(), *model.buffers()]


def test_why_an_architecture_is_left_out():
    import table

    rows = {"dinat": "needs natten", "bark": "has no forward", "mamba": "no attention"}
    for model_type, said in rows.items():
        assert table.reason(compared(model_type)[0]).startswith(said)


@pytest.mark.slow
def test_a_sample_of_the_page_again():
    import run
    import table

    page = written()
    chosen = sorted(page)[:: len(page) // SAMPLE][:SAMPLE]
    assert len(chosen) == SAMPLE
    found = {row["type"]: [table.verdict(row, way)[0] for way in table.WAYS] for row in run.compared(chosen)}
    assert found == {name: page[name] for name in chosen}
