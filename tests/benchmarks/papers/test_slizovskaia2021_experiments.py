"""Tests of the experiments of Slizovskaia et al. 2021: published numbers, run numbers, marks, figures, and the swap."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks.papers.slizovskaia2021 import corpus, figures, hyperparameters, paper, runs, swap, tables
from data_pipelines.prepared.corpus import Excerpt
from data_pipelines.prepared.store import Metadata, Row
from data_pipelines.schema import FRAMES, INSTRUMENTS, SLOTS
from qsep_jax.inference.model import Model
from qsep_jax.metrics.protocols import Protocol
from qsep_jax.metrics.tracks import TrackScores
from qsep_jax.runs.experiment import load_config
from qsep_jax.runs.experiment_json import to_json
from tests.commands import command, refused
from tests.experiments import ROOT

CONFIG = f"{ROOT / 'configs' / 'slizovskaia2021.py'}"
PIECES = {"a": ("cello", "violin"), "b": ("cello", "flute", "violin")}
SEGMENTS = 4


def evaluated(folder: Path, gains: dict[str, float], weights: str = "w", pieces=PIECES, variant: str = "debug") -> Path:
    """Write a run folder as `qsep evaluate segments` does; `gains` are added to the scores of an estimate.

    Apart from these gains, the scores of an instrument that plays are the same for all runs; the others have a PES.
    """
    folder.mkdir(parents=True)
    name = folder.name.partition("_")[0]
    (folder / "config.json").write_text(to_json(load_config(f"{CONFIG}:{name},{variant},chamber")))
    for estimate, gain in gains.items():
        for track, playing in pieces.items():
            rng = np.random.default_rng(len(track))
            stems = {}
            for stem in INSTRUMENTS:
                plays, noise = stem in playing, rng.normal(size=SEGMENTS)
                stems[stem] = {
                    metric: np.full(SEGMENTS, np.nan) if plays == (metric == "PES") else gain + index + noise
                    for index, metric in enumerate(paper.METRICS)
                }
            facts = {"weights": weights, "corpus": "chamber", "split": "test", "sources": list(playing)}
            scores = TrackScores(track, estimate, Protocol("segments", 0.5, 0.5), facts, stems)
            path = folder / "evaluation" / "chamber_test_segments" / "tracks" / estimate / f"{track}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(scores.to_json())
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Runs of experiment 6, of a better one, of an equal one, and of a baseline."""
    root = tmp_path_factory.mktemp("runs")
    bounds = {"irm": 12.0, "mixture": -3.0}
    return [
        evaluated(root / "exp9", {"model_w0": 1.0, "model_w2": 2.0}),
        evaluated(root / "exp6", {"model_w0": 0.5, "model_w2": 0.0, **bounds}),
        evaluated(root / "exp11_again", {"model_w0": 0.0, "model_w2": 0.0}),
        evaluated(root / "exp19", {"model_w0": -5.0, "model_w2": 30.0}),
    ]


def test_published_tables_are_complete():
    """The sums of the columns agree with sums that were taken from the paper's text in another way."""
    means = {
        "II": (-55.3, -177.5, -186.8, -15.6, 24.5, 86.3),
        "III": (-28.2, -89.0, -66.3, -8.3, 7.5, 34.1),
        "IV": (-104.9, -240.2, -149.4, -29.5, 0.8, 83.3),
    }
    deviations = {
        "II": (101.4, 200.3, 137.4, 71.1, 83.5, 62.4),
        "III": (39.2, 63.9, 66.0, 31.1, 40.2, 18.2),
        "IV": (94.8, 175.0, 136.5, 63.4, 77.6, 50.7),
    }
    for number, sums in enumerate((means, deviations)):
        for name, lines in paper.TABLES.items():
            cells = [[score[number] if score else 0.0 for score in line.scores] for line in lines]
            np.testing.assert_allclose(np.sum(cells, axis=0), sums[name], atol=1e-6)
    assert {line.experiment for lines in paper.TABLES.values() for line in lines} == set(range(22))


def test_published_corpora_add_up():
    rows = [row for name, row in paper.CORPORA.items() if name != "all"]
    urmp, pieces, sizes, _, solos, _ = paper.CORPORA["all"]
    assert set(paper.CORPORA) == {*INSTRUMENTS, "all"}
    assert (sum(row[0] for row in rows), sum(row[4] for row in rows)) == (urmp, solos)
    assert tuple(sum(row[2][index] for row in rows) for index in range(3)) == (2 * sizes[0], 3 * sizes[1], 4 * sizes[2])
    assert sum(sizes) == pieces
    # The paper's total of pieces with a double bass is one more than the sum of its counts.
    assert [name for name, row in paper.CORPORA.items() if sum(row[2]) != row[1]] == ["double_bass"]


@pytest.mark.parametrize("number", paper.HYPERPARAMETERS)
def test_table_v_agrees_with_the_paper(number):
    *cells, base = hyperparameters.row(number)
    assert tuple(cells) == paper.HYPERPARAMETERS[number]
    assert base == {1: "–", 19: "–"}.get(number, "19" if number > 19 else "1" if number < 8 else "6")


def test_table_v_has_the_two_attempts(tmp_path):
    assert command(hyperparameters, "--out", tmp_path) == 0
    rows = {row["experiment"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    assert list(rows) == list(range(1, 24))
    assert (rows[22]["mask"], rows[23]["loss"]) == ("None", "L2 + BCE of the instruments")


@pytest.mark.parametrize("variant", ["", "small", "debug"])
def test_a_run_is_recognised_by_its_fields(variant):
    for number in [*range(1, 19), 22, 23]:
        experiment = load_config(f"{CONFIG}:exp{number},{variant}")
        assert runs.number_of(experiment, "run7") == number
        assert runs.number_of(experiment, f"exp{number}_long") == number
        with pytest.raises(ValueError, match=f"has experiment {number}: rename"):
            runs.number_of(experiment, "exp19")


def test_runs_that_follow_the_paper_in_a_field_are_told_apart():
    system = load_config(f"{CONFIG}:exp11").system
    assert runs.variation_of(system, 11) == ""
    assert runs.variation_of(dataclasses.replace(system, multiply="after"), 11) == "multiply = after"
    assert runs.variation_of(dataclasses.replace(system, film_offset=0.0), 11) == ""  # it has no FiLM
    film = load_config(f"{CONFIG}:exp9").system
    assert runs.variation_of(dataclasses.replace(film, film_offset=0.0), 9) == "film_offset = 0.0"
    row = {"method": "Label-multiply", "experiment": 11, "run": "exp11", "variation": "multiply = after"}
    assert tables._method_name(row) == "Label-multiply (multiply = after)"
    assert tables._method_name({**row, "variation": "", "run": "long"}) == "Label-multiply (long)"
    assert tables._method_name({**row, "run": "exp11_long"}) == "Label-multiply (multiply = after; exp11_long)"


def test_a_baseline_is_recognised_by_its_name():
    experiment = load_config(f"{CONFIG}:exp20,small")
    assert runs.number_of(experiment, "small_exp20") == 20
    with pytest.raises(ValueError, match="may be experiment 19 or 20 or 21"):
        runs.number_of(experiment, "sop")


def test_other_systems_are_refused():
    experiment = load_config(f"{CONFIG}:exp5")
    mixed = dataclasses.replace(experiment.system, heads=True)
    with pytest.raises(ValueError, match="none of the experiments"):
        runs.number_of(dataclasses.replace(experiment, system=mixed), "exp5")
    with pytest.raises(ValueError, match="FrameClassifier is not of"):
        runs.number_of(load_config(f"{CONFIG}:classifier"), "exp5")


def test_significance_is_that_of_scipy():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 8, 60)
    better = base + rng.normal(0.3, 1.0, 60)
    keys = [("t", number, "cello") for number in range(60)]
    one, two = dict(zip(keys, better, strict=True)), dict(zip(keys, base, strict=True))
    one["only here", 0, "cello"] = 50.0
    result = tables.significance(one, two)
    assert result["pairs"] == 60
    assert result["difference"] == pytest.approx(np.mean(better - base))
    assert result["p_t"] == pytest.approx(stats.ttest_rel(better, base).pvalue)
    assert result["p_wilcoxon"] == pytest.approx(stats.wilcoxon(better, base, method="approx").pvalue)
    # The paired test shows a difference that an unpaired test does not.
    assert result["p_t"] < 0.05 < stats.ttest_ind(better, base).pvalue
    assert tables.significance(two, two)["p_t"] == 1.0
    assert tables.significance({key: value + 1 for key, value in two.items()}, two)["p_t"] == 0.0
    assert tables.significance({}, two) == {"pairs": 0}


def test_bold_in_the_paper_is_bold_here():
    bold = {
        "II": {"SI-SDR": 6, "SD-SDR": 6, "PES": 3, "SDR": 6, "SIR": 1, "SAR": 4},
        "III": {"SI-SDR": 9, "SD-SDR": 11, "PES": 6, "SDR": 9, "SIR": 11, "SAR": 9},
        "IV": {"SI-SDR": 16, "SD-SDR": 6, "PES": 6, "SDR": 16, "SIR": 6, "SAR": 18},
    }
    for name, lines in paper.TABLES.items():
        table_lines = tables.table([], name, "").splitlines()[4:]
        for metric, number in bold[name].items():
            column = tables.METRICS.index(metric) - len(tables.METRICS) - 1
            marked = [
                line.experiment for line, row in zip(lines, table_lines, strict=False) if "**" in row.split("|")[column]
            ]
            assert marked == [number]


def test_tables_of_runs(four, tmp_path):
    assert command(tables, "--runs", *four, "--out", tmp_path) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    two, three, four_, *rest = (tmp_path / "table.md").read_text().split("\nTable I")
    assert not rest
    lines = {line.split(" | ")[0].strip("| "): line for line in three.splitlines()}
    better = next(line for line in three.splitlines() if line.startswith("| FiLM-encoder | 9 | 2 |"))
    assert better.count("**") == 10  # all but PES, for which lower is better
    assert tables.DOT not in better
    same = lines["Label-multiply (exp11_again)"]
    assert "paper" not in same
    assert sum(tables.DOT in line for line in three.splitlines()[2:]) == 1  # W = 0 is not compared
    assert lines["Label-multiply (exp11_again)"].count(tables.DOT) == 6
    assert "paired t-test" in three
    assert "no run to compare with experiment 1" in two
    assert "| IRM | U | 0 |" in two
    assert "| IRM | U | 0 | 1" in two
    irm = next(line for line in two.splitlines() if line.startswith("| IRM | U"))
    assert irm.split(" | ")[5] == "n/a"
    # The baseline is not filtered, not compared and not bold.
    sop = [line for line in four_.splitlines() if line.startswith("| SoP-unet7 |")]
    assert len(sop) == 1
    assert sop[0].startswith("| SoP-unet7 | 3 | 19 | 0 | -")
    by_key = {(row["table"], row["experiment"], row["wiener"], row["metric"]): row for row in rows}
    row = by_key["III", 9, 2, "SI-SDR"]
    assert row["count"] == SEGMENTS * 5
    assert row["pairs"] == SEGMENTS * 5
    assert row["difference"] == pytest.approx(2.0)
    assert row["against"] == 6
    assert by_key["III", 9, 2, "PES"]["count"] == SEGMENTS * (11 + 10)
    assert "against" not in by_key["III", 9, 0, "SI-SDR"]
    base = by_key["III", 6, 2, "SI-SDR"]
    assert row["std"] == pytest.approx(base["std"])
    assert f"{base['mean']:.1f} ± {base['std']:.1f}" in three


def test_the_attempts_have_a_table_of_their_own(four, tmp_path):
    attempt = evaluated(tmp_path / "exp22", {"model_w0": 0.0, "model_w2": 0.0})
    assert command(tables, "--runs", four[1], attempt, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Section 5.4" in text
    assert "| magnitudes by L2 | 22 | 2 |" in text


def test_runs_that_cannot_be_compared(four, tmp_path, capsys):
    refused(capsys, "no run is given", tables)
    fewer = evaluated(tmp_path / "exp8", {"model_w0": 0.0, "model_w2": 0.0}, pieces={"a": PIECES["a"]})
    refused(capsys, "exp8 was not evaluated on the same segments as exp6", tables, "--runs", four[1], fewer)
    refused(
        capsys, "no scores of segments of chamber, validation split", tables, "--runs", four[1], "--split", "validation"
    )
    with pytest.raises(ValueError, match=r"qsep evaluate segments --workdir .*exp6 --wiener 0 2 --corpus urmp"):
        runs.read(four[1], "urmp", "test")
    evaluated(tmp_path / "x" / "exp8", {"model_w2": 0.0}, weights="others")
    (tmp_path / "x/exp8/evaluation/chamber_test_segments/tracks/model_w2").rename(
        fewer / "evaluation/chamber_test_segments/tracks/model_w3"
    )
    refused(capsys, "several checkpoints of the model", tables, "--runs", fewer)


def metadata(**index: list[Row]) -> SimpleNamespace:
    return SimpleNamespace(metadata=Metadata("made_up", "0", 100, 1, 150, {}, index), sample_rate=100)


def test_table_i():
    rows = [
        Row("a", "violin", "", 0, 6_000),
        Row("a", "cello", "", 0, 6_000),
        Row("b", "violin", "", 0, 12_000),
        Row("b", "viola", "", 0, 11_000),
        Row("b", "cello", "", 0, 12_000),
        Row("alone", "violin", "", 0, 99_000),
        Row("a", "violin@+1", "violin", 0, 6_000),
    ]
    learned = [Row("c", "tuba", "", 0, 3_000), Row("c", "tuba@-1", "tuba", 0, 3_000)]
    train, test = metadata(train=learned, validation=[Row("d", "tuba", "", 0, 4_050)], test=rows), metadata(test=rows)
    by_stem = {row["instrument"]: row for row in corpus.statistics(train, test)}
    assert by_stem["violin"]["pieces_of"] == {2: 1, 3: 1}
    assert by_stem["violin"]["played_s"] == 90.0
    assert by_stem["viola"]["pieces"] == 1
    assert (by_stem["tuba"]["recordings"], by_stem["tuba"]["recorded_s"]) == (2, 35.25)
    assert by_stem["all"]["pieces_of"] == {2: 1, 3: 1}
    assert by_stem["all"]["played_s"] == 90.0
    text = corpus.table(list(by_stem.values()), "made_up", "made_up")
    assert "| violin | 0 | – | 2 (1, 1) | 1:30 | 66 | 6:16 | 11 | 20 (5, 12, 3) | 1:51 |" in text
    assert corpus.duration(119.6) == "2:00"


# A tone for each instrument, which can be separated from a mixture of all of them.
RATE, SAMPLES = 1000, 500
VOICES = np.sin(2 * np.pi * np.arange(20, 20 + 2 * len(INSTRUMENTS), 2)[:, None] * np.arange(SAMPLES) / SAMPLES)


@dataclasses.dataclass(frozen=True)
class VisualSystem:
    """Separates the voice of the instrument whose number is the colour of a player, plus a little of the mixture."""

    cues = ("frames",)
    stems = tuple(INSTRUMENTS)
    sample_rate = RATE
    chunk_samples = SAMPLES
    window_length = 50
    hop_length = 25
    visual = SimpleNamespace(frames=2, spacing=0.1, size=1, slots=4)

    def condition(self, variables, cues):
        slots = jnp.asarray(cues[SLOTS])[0]
        colours = cues[FRAMES][0, :, 0, 0, 0, 0].astype(int)
        count = len(self.stems)
        visible = jnp.eye(count)[colours] * (slots >= 0)[:, None]  # [S, K]
        return jnp.einsum("sk,sj->kj", jnp.eye(count)[slots], visible)[None]

    def separate(self, variables, mixture, condition):
        voices = jnp.asarray(VOICES, jnp.float32)
        parts = jnp.einsum("btc,jt->bj", mixture, voices)[..., None] * voices[None] / (SAMPLES / 2)
        estimates = jnp.einsum("bkj,bjt->bkt", condition, parts) + 0.01 * mixture.swapaxes(1, 2)
        return estimates[..., None]


class Players:
    """A corpus of pieces; a player's colour is the number of the instrument, but in a `fickle` piece only on time."""

    channels, sample_rate, split, folder = 1, RATE, "test", Path("made_up")
    metadata = SimpleNamespace(name="made_up", fingerprint="0")
    stems = tuple(INSTRUMENTS)

    def __init__(self, fickle: str = ""):
        self.fickle, self.requests = fickle, []
        self.pieces = {**PIECES, "solo": ("tuba",)}

    def tracks(self, stem):
        return tuple(track for track, playing in self.pieces.items() if stem in playing)

    def length(self, track, stem):
        return SEGMENTS * SAMPLES + 7

    def read(self, excerpt: Excerpt):
        voice = np.tile(VOICES[self.stems.index(excerpt.stem)], SEGMENTS).astype(np.float32)
        return voice[:, None][: excerpt.samples]

    def frames(self, track, stem, times, size):
        self.requests.append((track, stem, tuple(times)))
        on_time = times[0] % (SAMPLES / RATE) < 1e-6
        colour = self.stems.index(stem) if self.fickle != track or on_time else self.stems.index("tuba")
        return np.full((len(times), size, size, 3), colour, np.uint8)


def measured_rows(players: Players, **options) -> dict[tuple[str, int], dict]:
    model = Model(VisualSystem(), {})
    results = swap.measure(model, players, "", swap.Swap(wiener=(0,), **options))
    return {(row["stem"], row["wiener"]): row for row in swap.rows_of(results)}


def test_a_model_that_uses_the_video_loses_a_source_with_another_video():
    rows = measured_rows(Players())
    row = rows["all", 0]
    assert row["segments"] == SEGMENTS * (2 + 3)
    assert row[swap.OWN]["mean"] > 35
    assert row[swap.OTHER]["mean"] < 1
    assert row["own − other player"]["mean"] == pytest.approx(row[swap.OWN]["mean"] - row[swap.OTHER]["mean"])
    assert row["own − other moment"]["mean"] == pytest.approx(0.0, abs=1e-4)
    assert rows["flute", 0]["segments"] == SEGMENTS


def test_the_moment_matters_if_the_video_changes():
    row = measured_rows(Players(fickle="b"), tracks=1)["all", 0]
    assert row["segments"] == 2 * SEGMENTS  # only the first piece, which is not fickle
    assert row["own − other moment"]["mean"] == pytest.approx(0.0, abs=1e-4)
    assert measured_rows(Players(fickle="a"), tracks=1)["all", 0]["own − other moment"]["mean"] > 30


def test_the_replacements_of_a_player():
    players = Players()
    draws = [swap.draw_replacements(players, "a", "cello", np.random.default_rng(seed)) for seed in range(20)]
    assert {(draw[swap.OTHER].track, draw[swap.OTHER].stem) for draw in draws} == {("b", "flute"), ("solo", "tuba")}
    for draw in draws:
        moment = draw[swap.MOMENT]
        assert (moment.track, moment.stem) == ("a", "cello")
        assert 0.25 * 2.007 < moment.shift < 0.75 * 2.007
    players.pieces = {"a": tuple(INSTRUMENTS)}
    with pytest.raises(ValueError, match="no other player"):
        swap.draw_replacements(players, "a", "cello", np.random.default_rng(0))


def test_swapped_video_has_another_player_with_a_shift():
    players = Players()
    swapped = swap.SwappedVideo(players, {("a", "cello"): swap.Player("solo", "tuba", 1.0)})
    swapped.frames("a", "cello", np.array([0.0, 1.5]), 1)
    swapped.frames("a", "violin", np.array([0.0, 1.0]), 1)
    swapped.frames("b", "cello", np.array([0.5]), 1)
    assert [request[:2] for request in players.requests] == [("solo", "tuba"), ("a", "violin"), ("b", "cello")]
    np.testing.assert_allclose(players.requests[0][2], [1.0, 2.5 - 2.007])  # the video repeats
    assert players.requests[1][2] == (0.0, 1.0)


def test_the_swap_of_a_run(tmp_path, monkeypatch, capsys):
    run = evaluated(tmp_path / "exp16", {})
    monkeypatch.setattr(swap, "load", lambda *arguments: (Model(VisualSystem(), {}), Players(), ""))
    assert command(swap, "--runs", run, "--out", tmp_path / "out", "--wiener", 0) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["stem"] for row in rows] == ["all", "cello", "flute", "violin"]
    assert {row["experiment"] for row in rows} == {16}
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| exp16 | all | 16 | 0 | 20 |" in text
    assert "| own player | another player | same player, another moment | drop, another player |" in text
    refused(capsys, "--runs is needed", swap)
    refused(capsys, "--wiener must be", swap, "--runs", run, "--wiener", -1)
    refused(capsys, "a model that is not conditioned on video", swap, "--runs", evaluated(tmp_path / "exp9", {}))


def test_figures_of_runs(four, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "load", lambda *arguments: (Model(VisualSystem(), {}), Players(), ""))
    options = ("--runs", *four, "--out", tmp_path)
    assert command(figures, *options) == 0
    for number in (3, 4, 5, 6):
        assert (tmp_path / f"figure{number}.png").stat().st_size > 5000
    capsys.readouterr()
    assert command(figures, "--runs", four[1], "--out", tmp_path / "one", "--figures", 3, 4, 6) == 0
    output = capsys.readouterr().out
    assert "Figure 3 is skipped: it needs a run of experiment 11" in output
    assert "Figure 4 is skipped: it needs a run of experiment 6 and 11" in output
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["figure6.png"]
    refused(capsys, "Figure 7 is not available", figures, *options, "--figures", 7)


def test_the_median_segment(four):
    run = runs.read(four[1], "", "test")
    track, segment, stem = figures.median_segment(run, "flute")
    values = run.of("model_w0", "SI-SDR", "flute")
    assert (track, stem) == ("b", "flute")
    assert run.values("model_w0", "SI-SDR")[track, segment, stem] == np.sort(values)[len(values) // 2]
    assert figures.median_segment(run, "tuba")[2] in ("cello", "flute", "violin")


def test_scores_by_stem_and_number_of_sources(four):
    run = runs.read(four[1], "", "test")
    assert run.of("model_w2", "SI-SDR").size == SEGMENTS * 5
    assert run.of("model_w2", "SI-SDR", sources=3).size == SEGMENTS * 3
    assert run.of("model_w2", "SI-SDR", "cello", 2).size == SEGMENTS
    assert run.of("model_w2", "PES", "tuba").size == 2 * SEGMENTS


def test_the_reported_estimates(four):
    assert [runs.read(run, "", "test").reported for run in four] == ["model_w2"] * 3 + ["model_w0"]
