"""Capabilities that only some systems have: they narrow to their protocols, and every other system is refused."""

import pytest

from qsep_jax.systems import capabilities
from qsep_jax.systems.base import System
from qsep_jax.systems.cantisani2021 import Cantisani2021
from qsep_jax.systems.capabilities import PlayerFrames
from qsep_jax.systems.frame_classifier import FrameClassifier
from qsep_jax.systems.lee2019 import Lee2019
from qsep_jax.systems.lin2021 import Lin2021
from qsep_jax.systems.slizovskaia2021 import Slizovskaia2021
from qsep_jax.systems.sound_of_pixels import SoundOfPixels
from qsep_jax.systems.stoller2018 import Stoller2018
from qsep_jax.systems.visual import Visual

MSI, MSS = Lin2021(), Lin2021(decoding="skips", transcription=False)
VIDEO = Slizovskaia2021(conditioning="final", visual=Visual(frames=5))
ALL = (
    Lee2019(),
    MSI,
    MSS,
    Slizovskaia2021(),
    VIDEO,
    SoundOfPixels(),
    FrameClassifier(),
    Stoller2018(),
    Cantisani2021(),
)


@pytest.mark.parametrize(
    ("narrow", "able", "message"),
    [
        (capabilities.transcriber, [MSI], r"this model \(.*\) cannot transcribe, it (can|has) .*: give a --model"),
        (capabilities.score_informed, [MSI], r"this model \(.*\) cannot separate by score, it (can|has) "),
        (capabilities.synthesizer, [MSI], r"this model \(.*\) cannot synthesize, it (can|has) "),
        (capabilities.player_frames, [VIDEO, SoundOfPixels()], r"this model \(.*\) is not conditioned on video"),
        (capabilities.adaptable, [Cantisani2021()], r"^\w+ has no settings for adaptation"),
        (
            capabilities.uses_stft,
            [system for system in ALL if type(system) not in (Cantisani2021, FrameClassifier)],
            r"this model \(.*\) has no STFT",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_able_systems_are_narrowed(narrow, able, message):
    for system in ALL:
        if system in able:
            narrow(system)
        else:
            with pytest.raises(ValueError, match=message):
                narrow(system)


def test_the_frames_of_players_are_those_of_the_system():
    assert capabilities.player_frames(VIDEO) == Visual(frames=5)
    assert capabilities.player_frames(SoundOfPixels()) == PlayerFrames(frames=3, spacing=3.0, size=224, slots=7)


def test_the_frame_rate_is_that_of_the_stft():
    assert capabilities.frame_rate_of(MSI) == 100.0
    with pytest.raises(ValueError, match="has no STFT"):
        capabilities.frame_rate_of(Cantisani2021())


@pytest.mark.parametrize("system", ALL, ids=lambda system: type(system).__name__)
def test_declared_capabilities_have_their_members(system: System):
    capabilities.check_declared(system)
    assert isinstance(system, capabilities.EstimatesSpectrograms) == isinstance(system, Slizovskaia2021)


def test_a_task_without_its_members_is_refused():
    class Declares(Lee2019):
        tasks = ("separate", "synthesize")

    with pytest.raises(ValueError, match=r"Declares has 'synthesize' in its tasks and lacks synthesize \(protocol"):
        capabilities.synthesizer(Declares())
    with pytest.raises(ValueError, match="cannot transcribe, it can separate, synthesize"):
        capabilities.need(Declares(), "transcribe")
    with pytest.raises(ValueError, match=r"FrameClassifier\) cannot separate, it has no task of inference: give"):
        capabilities.need(FrameClassifier(), "separate")
