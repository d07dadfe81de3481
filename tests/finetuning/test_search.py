"""The search: what it tries, keeps and writes, going on with it, and spaces that cannot be."""

import pytest

from regard.errors import ConfigError
from regard.finetuning import search as searching
from regard.finetuning.configure import load_config
from regard.finetuning.search import search

SPACE = {
    "train.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "train.batch_size": [8, 16],
    "adapter.rank": {"low": 2, "high": 5},
}


@pytest.fixture
def space(values):
    values["train"] |= {"max_steps": 2, "evaluate_every": 1}
    return values | {"search": {"trials": 2, "space": SPACE}, "adapter": {"kind": "lora"}}


@pytest.mark.slow
def test_a_search_goes_on_and_writes_the_best(space, tmp_path):
    first = search(space, quiet=True)
    assert first.trials == 2
    space["search"]["trials"] = 3
    found = search(space, quiet=True)
    assert found.trials == 3
    assert found.score >= first.score
    folder = tmp_path / "run.search"
    assert found.path == folder / "best.yaml"
    assert not list(folder.rglob("*.safetensors"))
    best = load_config(found.path)
    assert best.output == space["output"]
    assert best.train.learning_rate == found.values["train.learning_rate"]
    assert best.train.batch_size == found.values["train.batch_size"]
    assert best.adapter.rank == found.values["adapter.rank"] in (2, 3, 4, 5)
    tried = [load_config(path) for path in sorted(folder.glob("trial-*/config.yaml"))]
    assert len(tried) == 3
    assert len({each.train.learning_rate for each in tried}) == 3
    assert all(1e-5 <= each.train.learning_rate <= 1e-2 for each in tried)
    space["train"]["warmup"] = 0.3
    with pytest.raises(ConfigError) as caught:
        search(space, quiet=True)
    assert str(caught.value) == (
        f"{folder}: need the configuration that the search began with; got another train.warmup; undo the change, or "
        "name another output."
    )


def test_the_best_is_the_best(space, monkeypatch):
    scores = iter([0.3, None, 0.7, 0.5])
    tried = []

    def scored(config, values, folder):
        tried.append(values)
        return next(scores)

    monkeypatch.setattr(searching, "_score", scored)
    space["search"]["trials"] = 4
    found = search(space, quiet=True)
    assert (found.score, found.trials, found.values) == (0.7, 3, tried[2])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "search.space: need keys to search, such as train.learning_rate; got none; add some."),
        (
            {"data.max_length": [16]},
            "search.space: need keys of train, adapter or options, or model; got 'data.max_length'; remove it.",
        ),
        (
            {"train.rate": [1.0]},
            "config: need keys that exist; got 'train.rate'; did you mean 'train.learning_rate'?",
        ),
        (
            {"train.warmup": {"low": 0.0, "high": 2.0}},
            "config: need 'train.warmup' to be less than 1; got 2.0; change it.",
        ),
    ],
)
def test_spaces_that_cannot_be(space, given, told, tmp_path):
    space["search"]["space"] = given
    with pytest.raises(ConfigError) as caught:
        search(space, quiet=True)
    assert str(caught.value) == told
    assert not (tmp_path / "run.search").exists()
