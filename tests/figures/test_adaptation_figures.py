"""The figure of the activity of stems."""

import numpy as np
import pytest
from PIL import Image

from qsep_jax.figures.adaptation import draw_activations

RATE = 8000


def columns_of(path, hexadecimal: str) -> np.ndarray:
    """The columns of a picture in which a colour fills more than 15 pixels."""
    colour = [int(hexadecimal[place : place + 2], 16) for place in (0, 2, 4)]
    with Image.open(path) as picture:
        return np.flatnonzero((np.asarray(picture.convert("RGB")) == colour).all(axis=2).sum(axis=0) > 15)


def test_bars_show_where_stems_are_active(tmp_path):
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, (10 * RATE, 2))
    active = np.ones((4, 10 * RATE), bool)
    active[0, : 5 * RATE] = False
    active[2] = False
    path = tmp_path / "new" / "a.png"
    draw_activations(mixture, active, ("vocals", "drums", "bass", "other"), RATE, "a song", path, unnamed=["other"])
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
    vocals, drums = columns_of(path, "1f77b4"), columns_of(path, "ff7f0e")
    assert len(vocals) == pytest.approx(len(drums) / 2, rel=0.02)
    assert vocals[-1] == drums[-1]
    assert not len(columns_of(path, "2ca02c")), "bass rests"
    assert not len(columns_of(path, "d62728")), "other is only assumed to be active"


@pytest.mark.parametrize(("stems", "samples"), [(1, 100), (13, RATE)])
def test_short_and_silent_songs_and_many_stems(tmp_path, stems, samples):
    names = [f"stem {number}" for number in range(stems)]
    draw_activations(np.zeros((samples, 1)), np.eye(stems, samples) > 0, names, RATE, "silence", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[1] > 400
