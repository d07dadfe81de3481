"""What messages say of names that do not exist, of small numbers, and of advice that is followed already."""

import pytest
from datasets import Dataset

from regard.errors import ConfigError
from regard.finetuning import words
from regard.finetuning.config import Config
from regard.finetuning.measure import _over_seeds
from regard.finetuning.tasks import _classes, get_task
from regard.finetuning.train import require_finite


def test_names_are_meant_only_where_they_are_near():
    known = ["text", "label", "sentence"]
    assert words.nearest("sentense", known) == "sentence"
    assert words.nearest("LABEL", known) == "label"
    assert words.nearest("quality", known) is None
    assert words.listed([str(n) for n in range(14)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0.000"), (0.5, "0.500"), (2e-5, "2e-05"), (0.00123, "0.0012"), (-0.0004, "-0.0004")]
)
def test_small_numbers_keep_their_digits(value, told):
    assert words.digits(value) == told


def test_settings_keep_their_digits():
    assert words.setting(2.3456789e-5) == "2.346e-05"
    assert words.setting(32) == "32"


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        Config.load({"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o", **values})
    return str(caught.value)


def test_keys_that_are_near_and_far():
    assert refused(learning_rate=1) == (
        "config: need keys that exist; got 'learning_rate'; did you mean 'train.learning_rate'?"
    )
    assert refused(train={"lerning_rate": 1}).endswith("got 'train.lerning_rate'; did you mean 'train.learning_rate'?")
    assert refused(monitor={"q": 1}).endswith(
        "got 'monitor.q'; choose one of monitor.every, monitor.rows, monitor.report_to."
    )
    with pytest.raises(ConfigError) as caught:
        get_task("poetry")
    assert str(caught.value).endswith("got 'poetry'; choose one.")
    with pytest.raises(ConfigError) as caught:
        get_task("text-clasification")
    assert str(caught.value).endswith("did you mean 'text-classification'?")


def balanced(wanted):
    values = {"task": "text-classification", "model": "m", "data": {"train": "t"}, "output": "o"}
    config = Config.load({**values, "options": {"class_weights": wanted}})
    train = Dataset.from_dict({"label": ["a"] * 100 + ["b"] * 12})
    return [(each.level, each.message) for each in _classes.rarities(train, config)]


def test_advice_that_is_followed_is_not_given_again():
    [(level, told)] = balanced("none")
    assert level == "warning"
    assert "try options.class_weights: balanced" in told
    [(level, told)] = balanced("balanced")
    assert level == "ok"
    assert told == (
        "train: 'a' is 8 times as frequent as 'b'; options.class_weights: balanced gives the loss a weight of 4.7 for "
        "'b', 0.56 for 'a'"
    )
    for half, told in [
        (True, "lower train.learning_rate, or set train.precision to float32."),
        (False, "; lower train.learning_rate."),
    ]:
        with pytest.raises(Exception, match="need a finite loss") as caught:
            require_finite(float("nan"), 3, half)
        assert str(caught.value).endswith(told)


def test_the_spread_of_repeats_is_told():
    repeated = {"seeds": [1, 2], "macro_f1": {"mean": 0.75, "deviation": 0.001, "values": [0.7, 0.8]}}
    assert _over_seeds(repeated) == ["Macro F1 over 2 seeds: mean 0.750, deviation 0.001 (0.700, 0.800)"]
    assert _over_seeds({}) == []
