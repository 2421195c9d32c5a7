"""Names of files that begin with a dash, which look like options."""

import pytest

from qsep_jax import adapt, evaluate, export, separate, synthesize, transcribe
from tests.commands import command, refused


@pytest.mark.parametrize("module", [separate, transcribe, synthesize, adapt, export, evaluate])
def test_the_hint_of_two_dashes(tmp_path, monkeypatch, capsys, module):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.wav").touch()
    refused(capsys, "-dash.wav is taken for an option: give -- before file names", module, "-dash.wav")


def test_only_existing_files_get_the_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(capsys, "unknown option '-dash.wav'", separate, "-dash.wav")
    (tmp_path / "-dash.wav").write_text("no audio")
    refused(capsys, "unknown option '--labl'; did you mean '--label'?", separate, "--labl", "x", "--", "-dash.wav")
    capsys.readouterr()
    assert command(separate, "--label", "violin", "--out", tmp_path / "out", "--", "-dash.wav") == 2
    assert "-dash.wav: cannot be read as audio" in capsys.readouterr().err
