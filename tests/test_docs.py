"""The examples of docs/python.md and of the README run as they are written."""

import re

import numpy as np
import pytest
import soundfile

from tests.experiments import ROOT

NOT_RUN = "<!-- not run"


def examples(page: str) -> list[str]:
    """The Python blocks of a page, without those that are marked as not run."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"(<!--[^>]*-->\n)?```python\n(.*?)```", text, re.DOTALL)
    return [code for mark, code in blocks if not mark.startswith(NOT_RUN)]


@pytest.mark.parametrize(("page", "least"), [("docs/python.md", 5), ("README.md", 1)])
def test_examples_run(page, least, tmp_path, monkeypatch, capsys):
    """Together and in their order, on a duet of 10 s of tones at 16 kHz."""
    rate, time = 16_000, np.arange(160_000) / 16_000
    low, high = (0.2 * np.sign(np.sin(2 * np.pi * pitch * time)) for pitch in (110, 660))
    soundfile.write(tmp_path / "mix.wav", low * (time > 2) + high * (time < 4), rate)
    soundfile.write(tmp_path / "violin.wav", high, rate)
    monkeypatch.chdir(tmp_path)
    blocks = examples(page)
    assert len(blocks) >= least
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    violin, audio = names["violin"], names["audio"]
    assert np.shape(violin) == np.shape(audio)
    assert soundfile.info(tmp_path / "violin.wav").frames == len(time)
