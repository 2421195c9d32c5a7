"""Tests that two processes with two devices each, connected over loopback, train like one process with one device."""

import numpy as np
import pytest

from tests.experiments import debug, write_corpora
from tests.processes import finish, losses, start, start_together

OPTIONS = (
    *("--train.steps", "10", "--train.batch-size", "4", "--train.log-every", "1", "--train.workers", "0"),
    *("--train.save-every", "4", "--train.validate-every", "4", "--train.no-evaluate"),
)


@pytest.mark.slow
@pytest.mark.parametrize("corpus", [(), ("--train.corpus-on-device",)], ids=["on hosts", "on devices"])
def test_two_processes_give_the_losses_of_one(tmp_path, corpus):
    data = tmp_path / "data"
    write_corpora(debug("lee2019.py"), data)
    processes = start_together(2, tmp_path / "two", data, *OPTIONS, *corpus, devices=2)
    for process in processes:
        finish(process)
    finish(start(tmp_path / "one", data, *OPTIONS, *corpus))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == list(range(1, 11))
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
    assert (tmp_path / "two" / "conditions.npz").exists()
    # One process continues the run of two processes.
    longer = [option if option != "10" else "12" for option in OPTIONS]
    finish(start(tmp_path / "two", data, *longer, *corpus))
    assert list(losses(tmp_path / "two")) == list(range(1, 13))
