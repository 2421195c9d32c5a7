"""`train`: its checks of the prepared corpora before a run."""

import contextlib
import dataclasses
import warnings

import numpy as np
import pytest

from configs.lin2021 import get_config
from data_pipelines.corpora.base import Stem
from data_pipelines.corpora.pitch_shift import facts
from data_pipelines.prepared import store
from qsep_jax.train import prepare_missing


@pytest.mark.parametrize("current", [False, True])
def test_variants_of_an_older_version_are_reported(current, tmp_path):
    """Nothing tells `train` the source of a corpus that is not built in, so that it cannot compare fingerprints."""
    experiment = get_config("msi")
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=str(tmp_path)))
    rate, options = experiment.system.sample_rate, {"kind": "urmp", "shifts": "4"}
    options |= facts(options) if current else {}
    stems = [Stem("violin", np.ones((rate, 1), np.int16))]
    for corpus in {name for stream in experiment.data.streams.values() for name in stream.corpora}:
        folder = store.corpus_folder(tmp_path, corpus, rate)
        tracks = {"train": iter([store.segments("a", stems, rate)])}
        store.write(folder, corpus, rate, 1, tracks, fingerprint="0", options=options)
    with contextlib.ExitStack() as stack:
        if current:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("error")
        else:
            stack.enter_context(pytest.warns(UserWarning, match="lack the top of the spectrum; 'qsep prepare urmp"))
        prepare_missing(experiment)
