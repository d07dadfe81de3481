"""The order of examples: a permutation, fixed by seed and epoch, with batches of like length."""

import numpy as np
import pytest

from regard.finetuning.training.sampler import LengthSampler, batches_by_length

LENGTHS = np.random.default_rng(0).integers(3, 80, 1003).tolist()


def order(epoch=0, lengths=LENGTHS, seed=1):
    sampler = LengthSampler(lengths, len(LENGTHS), 16, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def padding(rows):
    batches = [[LENGTHS[n] for n in rows[start : start + 16]] for start in range(0, len(rows), 16)]
    return sum(len(b) * max(b) - sum(b) for b in batches) / sum(LENGTHS)


@pytest.mark.parametrize("lengths", [LENGTHS, None])
def test_every_row_once(lengths):
    assert sorted(order(lengths=lengths)) == list(range(1003))


@pytest.mark.parametrize("rows", [5, 40, 63, 2500])
def test_no_batch_takes_more_memory_than_the_very_first(rows):
    """Neither padded nor unpadded, in no epoch: a few long texts, and pools without any."""
    lengths = np.random.default_rng(rows).lognormal(3.6, 0.7, rows).astype(int) + 1
    sampler, costs = LengthSampler(lengths.tolist(), rows, 16, seed=3), []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        seen = list(sampler)
        assert sorted(seen) == list(range(rows))
        batches = [lengths[seen[start : start + 16]] for start in range(0, rows, 16)]
        assert [len(batch) for batch in batches[:-1]] == [16] * (len(batches) - 1)
        costs += [(len(batch) * batch.max(), batch.sum()) for batch in batches]
    padded, unpadded = np.transpose(costs)
    assert padded.max() == padded[0]
    assert unpadded.max() == unpadded[0]


def test_batches_are_not_in_the_order_of_their_lengths():
    rows = order()
    sizes = [max(LENGTHS[n] for n in rows[start : start + 16]) for start in range(0, 992, 16)]
    assert sorted(sizes[1:], reverse=True) != sizes[1:]
    assert sizes[1:] != sorted(sizes[1:])


def test_seed_and_epoch_fix_the_order():
    assert order(2) == order(2)
    assert order(2) != order(3)
    assert order(2, seed=1) != order(2, seed=2)


def test_batches_hold_rows_of_like_length():
    assert padding(order(lengths=None)) > 0.4
    assert padding(order()) < 0.05


def test_lengths_do_not_follow_the_course_of_an_epoch():
    means = [np.mean([LENGTHS[n] for n in order()[start : start + 16]]) for start in range(0, 992, 16)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_fewer_rows_than_a_batch():
    assert sorted(LengthSampler([5, 3, 4], 3, 16, 0)) == [0, 1, 2]


@pytest.mark.parametrize(("padded", "least"), [(True, 0.7), (False, 0.9)])
def test_batches_by_length_hold_every_row_and_stay_within_the_limit(padded, least):
    batches = batches_by_length(LENGTHS, 1000, padded)
    assert sorted(n for batch in batches for n in batch) == list(range(len(LENGTHS)))
    tokens = [sum(max(LENGTHS[m] for m in batch) if padded else LENGTHS[n] for n in batch) for batch in batches]
    assert max(tokens) <= 1000
    assert min(tokens[:-1]) > 1000 * least
    assert [LENGTHS[n] for batch in batches for n in batch] == sorted(LENGTHS, reverse=True)
    assert batches_by_length([5000], 1000, padded) == [[0]]
