"""Tests of the selection of parameters by path prefixes."""

import numpy as np
import pytest

from qsep_jax.training.partition import replace, select

PARAMS = {
    "tasnet": {"repeat_4": {"kernel": np.ones(2)}, "repeat_40": {"kernel": np.ones(3)}, "in": np.ones(1)},
    "critic": {"dense": {"kernel": np.ones(4), "bias": np.ones(5)}},
}


@pytest.mark.parametrize(
    ("prefixes", "paths"),
    [
        (("tasnet/repeat_4",), ["tasnet/repeat_4/kernel"]),
        (("critic", "tasnet/in"), ["critic/dense/bias", "critic/dense/kernel", "tasnet/in"]),
        (("critic", "critic/dense/bias"), ["critic/dense/bias", "critic/dense/kernel"]),
        ((), []),
    ],
)
def test_selects_parameters_at_or_below_a_prefix(prefixes, paths):
    assert list(select(PARAMS, prefixes)) == paths


@pytest.mark.parametrize("prefix", ["tas", "tasnet/repeat", "critic/dense/kernel/x", ""])
def test_an_unmatched_prefix_is_refused(prefix):
    with pytest.raises(ValueError, match=f"at or below '{prefix}'; the networks are critic, tasnet"):
        select(PARAMS, ("critic", prefix))


def test_replace_only_changes_the_selected_part():
    part = {path: 0 * leaf for path, leaf in select(PARAMS, ("critic",)).items()}
    replaced = replace(PARAMS, part)
    assert not replaced["critic"]["dense"]["kernel"].any()
    assert replaced["tasnet"]["repeat_4"]["kernel"] is PARAMS["tasnet"]["repeat_4"]["kernel"]
    assert PARAMS["critic"]["dense"]["kernel"].all()
    np.testing.assert_equal(replace(PARAMS, select(PARAMS, ("tasnet", "critic"))), PARAMS)
