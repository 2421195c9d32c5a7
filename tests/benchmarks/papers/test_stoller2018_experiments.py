"""Tests of the slides' table with invented scores, and of the critics' distances on songs of noise."""

from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.papers.stoller2018 import critic, paper
from benchmarks.papers.stoller2018.table import Run, rows_of, system_of, table
from configs.stoller2018 import get_config
from data_pipelines.corpora.stoller2018 import published_songs
from data_pipelines.schema import MIXTURE, SOURCES
from qsep_jax.inference.model import Model


def run(system: str, offset: float, songs: int = 2) -> Run:
    """A run on one song of a corpus and `songs` songs of another; the voice is 1 dB better in each further song."""

    def scores(count: int) -> dict[str, dict[tuple[str, str], float]]:
        return {f"song{n}": {("SDR", "vocals"): offset + n, ("SDR", "accompaniment"): 10.0} for n in range(count)}

    return Run(system, {"one": scores(1), "two": scores(songs)}, {})


def test_songs_of_all_corpora_have_equal_weight_and_runs_have_mean_and_spread():
    rows = rows_of([run("baseline", 0.0), run("VA", 1.0), run("VA", 3.0)])
    cells = {(row["system"], row["corpus"], row["stem"]): row for row in rows}
    assert cells["baseline", "all", "vocals"]["mean"] == pytest.approx(1 / 3)  # 0; 0 and 1
    assert cells["baseline", "two", "vocals"]["mean"] == 0.5
    assert cells["baseline", "all", "vocals"]["spread"] is None
    assert cells["VA", "one", "vocals"]["mean"] == 2.0
    assert cells["VA", "one", "vocals"]["spread"] == pytest.approx(np.sqrt(2))
    assert (cells["VA", "all", "vocals"]["songs"], cells["VA", "all", "vocals"]["runs"]) == (3, 2)
    lines = table(rows).splitlines()
    assert lines[0].startswith("| dB | all (3), baseline | all (3), VA | one (1), baseline")
    assert lines[2].startswith("| SDR accompaniment | 10.00 | 10.00 ± 0.00 |")
    assert lines[3].startswith("| SDR vocals | 0.33 | 2.33 ± 1.41 |")


def test_runs_on_different_songs_are_refused():
    with pytest.raises(ValueError, match="not evaluated on the same songs"):
        rows_of([run("baseline", 0.0), run("VA", 0.0, songs=3)])


def test_the_slides_have_ninety_numbers():
    scores = paper.published()
    assert len(scores) == 90
    assert scores["SDR", "vocals", "all", "VA"] == 7.47
    assert scores["SAR", "vocals", "ikala", "VA"] == 11.73


def rms_of_pooled_column(counts: dict[str, int]) -> float:
    """How far, in dB, the pooled column is from the mean of the corpora weighted by numbers of songs."""
    scores, errors = paper.published(), []
    for metric, stem in paper.ROWS:
        for system in paper.SYSTEMS:
            pooled = sum(songs * scores[metric, stem, corpus, system] for corpus, songs in counts.items())
            errors.append(pooled / sum(counts.values()) - scores[metric, stem, "all", system])
    return float(np.sqrt(np.mean(np.square(errors))))


def test_the_pooled_column_is_the_mean_over_the_voiced_test_songs_of_the_split_file():
    """It confirms the split: no other number of songs of MedleyDB fits as well (18 is that of a sorted split)."""
    counts = {
        corpus: sum(song.has_voice and song.split == "test" for song in published_songs(corpus))
        for corpus in ("dsd100", "medleydb", "ccmixter")
    } | {"ikala": 252 // 3}
    assert counts == {"dsd100": 25, "medleydb": 20, "ccmixter": 18, "ikala": 84}
    assert rms_of_pooled_column(counts) < 0.007
    assert rms_of_pooled_column(counts | {"medleydb": 18}) > 0.04
    assert rms_of_pooled_column(counts | {"medleydb": 42}) > 0.4
    others = [rms_of_pooled_column(counts | {"medleydb": songs}) for songs in range(1, 43) if songs != 20]
    assert min(others) > 2 * rms_of_pooled_column(counts)


@pytest.mark.parametrize(("variant", "name"), [("supervised", "baseline"), ("v", "V"), ("va", "VA")])
def test_systems_have_the_names_of_the_slides(variant, name):
    system: Any = get_config(f"{variant},debug").system
    assert system_of(system) == name


@pytest.mark.slow
def test_distances_are_differences_of_mean_scores(tmp_path):
    system: Any = get_config("v,debug").system
    model = Model(system, jax.jit(lambda: system.init(jax.random.key(0), {}))())
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((3, 2, system.chunk_samples, 1), np.float32)
    songs = {MIXTURE: sources.sum(1), SOURCES: sources}
    distances = critic.distances(model, songs)
    assert list(distances) == ["vocals"]
    params = jax.tree.map(lambda leaf: leaf[0], model.variables["params"]["critics"])

    def score(audio: np.ndarray) -> float:
        return float(jax.jit(system.critic.apply)({"params": params}, system.real_view(audio)).mean())

    assert distances["vocals"]["0 dB"] == pytest.approx(score(sources[:, 0]) - score(songs[MIXTURE]), abs=1e-5)
    assert distances["vocals"]["-40 dB"] == pytest.approx(0.0, abs=abs(distances["vocals"]["0 dB"]))
    critic.plot(model, songs, tmp_path / "critic.png")
    assert (tmp_path / "critic.png").stat().st_size > 10_000
