"""Tests of the benchmark of separating long files."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from benchmarks import separation
from benchmarks.separation import MemoryMonitor, Separation
from data_pipelines.audio.reading import BLOCK

FIELDS = {"benchmark", "system", "implementation", "batch", "precision", "devices", "median_s", "p90_s"}
MEMORY = {"idle_mib", "peak_mib", "peak_above_idle_mib", "hwm_above_idle_mib"}


@pytest.mark.slow
def test_rows(run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    monkeypatch.setattr(separation, "WARM_UP_S", 1.0)
    arguments = ["--model", str(run), "--seconds", "1", "2.5", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["separation", *arguments])
    separation.main()
    rows = json.loads(path.read_text())
    assert [row["seconds"] for row in rows] == [1.0, 2.5]
    for row in rows:
        assert set(row) >= FIELDS | MEMORY | {"date", "processor", "versions", "command", "commit"}
        assert (row["system"], row["devices"], row["output"]) == ("Lee2019", 8, "WAV PCM_16")
        assert row["model"]["run"] == run.name
        assert row["output_frames"] == row["seconds"] * 44_100
        assert row["output_bytes"] == row["input_bytes"] == 44 + 4 * row["output_frames"]
        assert row["real_time_factor"] == pytest.approx(row["seconds"] / row["median_s"])
        assert row["peak_mib"] >= row["idle_mib"] > 50
    assert "ratio_to_shortest" not in rows[0]
    assert rows[1]["ratio_to_shortest"]["seconds"] == 2.5
    assert rows[1]["ratio_to_shortest"]["peak_mib"] == pytest.approx(rows[1]["peak_mib"] / rows[0]["peak_mib"])
    assert "longest file relative to the shortest: seconds ×2.5" in capsys.readouterr().out


def test_memory_is_measured():
    with MemoryMonitor() as monitor:
        array = np.ones(2**23)  # 64 MiB
        time.sleep(0.3)
        del array
    for peak in (monitor.sampled, monitor.high_water):
        assert 60 < peak - monitor.idle < 100
    with MemoryMonitor() as after:
        time.sleep(0.1)
    assert after.high_water - after.idle < 30  # the peak of the first block does not count


def test_the_signal_does_not_depend_on_its_length():
    short, long = (list(separation.signal(frames, 0)) for frames in (BLOCK + 1000, 2 * BLOCK))
    assert [block.shape for block in short] == [(BLOCK, 2), (1000, 2)]
    np.testing.assert_array_equal(np.concatenate(short), np.concatenate(long)[: BLOCK + 1000])
    assert 0.2 < np.abs(np.concatenate(long)).max() < 1
    steps = np.abs(np.diff(np.concatenate(long), axis=0))
    assert (steps[BLOCK - 1] < np.quantile(steps, 0.99, axis=0)).all()  # the tones continue in the next block


def stub(monkeypatch, cues, frames):
    """Replace the model by one that only has cues, and the separation by one that writes `frames` zeros."""
    system = SimpleNamespace(cues=cues, sample_rate=8000)
    saved = SimpleNamespace(path="somewhere", load=lambda: (None, SimpleNamespace(system=system)))

    def separate_file(file, model, conditions, paths, advance=None):
        soundfile.write(paths[0], np.zeros((frames, 2)), 44_100)
        return [SimpleNamespace(frames=file.frames)]

    monkeypatch.setattr(separation, "find_model", lambda name: saved)
    monkeypatch.setattr(separation, "encode", lambda model, audio: ())
    monkeypatch.setattr(separation, "separate_file", separate_file)


@pytest.mark.parametrize(
    ("cues", "frames", "message"),
    [(("labels",), 4410, "accepts labels, not a query"), (("query",), 4000, "has 4000 frames.* not 4410")],
)
def test_a_model_without_queries_and_an_output_of_another_length_are_refused(
    monkeypatch, tmp_path, cues, frames, message
):
    stub(monkeypatch, cues, frames)
    mixture = tmp_path / "mixture.wav"
    separation.write_signal(mixture, 0.1, 0)
    with pytest.raises(ValueError, match=message):
        separation.make_separation("", mixture, mixture, tmp_path / "out.wav")


def test_no_such_model(tmp_path):
    with pytest.raises(ValueError, match="is no run folder and no bundle"):
        separation.measure(Separation(model=str(tmp_path)))


def test_no_lengths():
    with pytest.raises(ValueError, match="--seconds must be positive, not 600 0"):
        Separation(seconds=(600.0, 0.0)).check()
