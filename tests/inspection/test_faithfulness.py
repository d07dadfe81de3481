"""A model whose reasons are known: the true ranking must win, its reverse lose, a random one be neither."""

import numpy as np
import pytest

from regard.errors import ShapeError
from regard.inspection.faithfulness import faithfulness

EFFECT = np.random.default_rng(0).exponential(size=40)


def score(kept):
    return kept @ EFFECT / EFFECT.sum()


def test_the_true_ranking_is_faithful_and_its_reverse_is_not():
    found = faithfulness(score, EFFECT)
    for mean, low, high in found.beyond_random().values():
        assert 0 < low < mean < high
    assert "better than random" in str(found)
    for mean, low, high in faithfulness(score, -EFFECT).beyond_random().values():
        assert low < mean < high < 0
    assert "worse than random" in str(faithfulness(score, -EFFECT))
    assert (np.diff(found.deletion) < 0).all()
    assert (np.diff(found.insertion) > 0).all()
    assert found.whole == pytest.approx(1)


def test_a_ranking_of_nothing_cannot_be_told_from_random():
    verdicts = [
        low <= 0 <= high
        for seed in range(40)
        for _, low, high in faithfulness(score, np.random.default_rng(seed + 1000).permutation(40), seed=seed)
        .beyond_random()
        .values()
    ]
    assert np.mean(verdicts) > 0.85  # of 95 % that are expected


def test_what_may_not_go_stays():
    cases = []

    def look(kept):
        cases.append(kept)
        return np.zeros(len(kept))

    removable = np.ones(40, bool)
    removable[[0, 39]] = False
    found = faithfulness(look, EFFECT, shares=(0.1, 1.0), repeats=3, removable=removable)
    [kept] = cases
    assert kept.shape == (1 + 4 * 2 * 2, 40)
    assert kept[:, [0, 39]].all()
    assert (kept[1:].sum(1) == np.tile([36, 6, 2, 40], 4)).all()
    assert found.random_deletion.shape == (3, 2)
    assert "not told from random" in str(found)


def test_errors():
    with pytest.raises(ShapeError, match="need the importance of each input"):
        faithfulness(score, [])
    with pytest.raises(ShapeError) as error:
        faithfulness(score, EFFECT, removable=np.zeros(40, bool))
    assert str(error.value) == (
        "faithfulness: need removable of shape (40,) with an input that may go, and 2 repeats; got (40,), 0 inputs "
        "and 100 repeats."
    )
