"""What only some systems can do, as typed protocols: the second contract beside `qsep_jax.systems.base`.

A system declares a capability, by an entry of `tasks` or `cues`, and has the members of its protocol. Code that needs
the capability narrows the system by a function of this module, which raises one clear ValueError otherwise:

| capability             | declared by                        | protocol                 | narrowed by       |
| ---------------------- | ---------------------------------- | ------------------------ | ----------------- |
| transcription          | `"transcribe"` in `tasks`          | `Transcriber`            | `transcriber`     |
| score-informed         | `"separate_by_score"` in `tasks`   | `ScoreInformedSeparator` | `score_informed`  |
| synthesis              | `"synthesize"` in `tasks`          | `Synthesizer`            | `synthesizer`     |
| conditioned on video   | `"frames"` in `cues`               | `ConditionedOnVideo`     | `player_frames`   |
| adaptation to a song   | `adaptation`                       | `Adaptable`              | `adaptable`       |
| STFT of its own        | `window_length` and `hop_length`   | `UsesStft`               | `uses_stft`       |
| complex estimates      | `spectrograms`                     | `EstimatesSpectrograms`  | `isinstance`      |
| chunks of any length   | `with_frames`                      | `AnyLength`              | `with_frames`     |
"""

import dataclasses
from typing import Protocol, runtime_checkable

from jax import Array

from qsep_jax.systems.base import Condition, System, Variables
from qsep_jax.systems.bounds import MOST_PIXELS, MOST_PLAYERS, bounded
from qsep_jax.systems.one_shot import Adaptation


@runtime_checkable
class UsesStft(Protocol):
    """A system that works on STFT frames, with a Hann window of `window_length` samples every `hop_length` samples."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def window_length(self) -> int: ...
    @property
    def hop_length(self) -> int: ...


@runtime_checkable
class OnFrames(UsesStft, Protocol):
    """A system whose chunks are `frames` STFT frames, `chunk_samples = frames · hop_length`, and so are its notes.

    A roll `[B, N, K]` is one-hot, or probabilities, over the `data_pipelines.schema.CLASSES` classes of each frame:
    MIDI pitches and, last, silence. N is `frames`.
    """

    @property
    def frames(self) -> int: ...
    @property
    def chunk_samples(self) -> int: ...


@runtime_checkable
class Transcriber(OnFrames, Protocol):
    """A system with `transcribe` among its tasks."""

    def transcribe(self, variables: Variables, mixture: Array, condition: Condition) -> Array:
        """Return the probabilities `[B, N, K]` of the notes of the source that `condition` selects in `[B, T, C]`."""
        ...


@runtime_checkable
class ScoreInformedSeparator(OnFrames, Protocol):
    """A system with `separate_by_score` among its tasks."""

    def separate_by_score(self, variables: Variables, mixture: Array, condition: Condition, roll: Array) -> Array:
        """Separate the source with the notes `roll` `[B, N, K]`: `[B, T, C]` → `[B, 1, T, C]`."""
        ...


@runtime_checkable
class Synthesizer(OnFrames, Protocol):
    """A system with `synthesize` among its tasks."""

    def synthesize(self, variables: Variables, mixture: Array, condition: Condition, roll: Array) -> Array:
        """Return magnitudes `[B, N, F]` of the source in `[B, T, C]` playing `roll`.

        F is `window_length // 2 + 1`, or more if the transform is longer than the window: `2 (F − 1)` samples.
        """
        ...


@dataclasses.dataclass(frozen=True)
class PlayerFrames:
    """The frames that a system takes of each player.

    Attributes:
      frames: Number of frames of each player.
      spacing: Seconds from one frame to the next; the first is at the beginning of the excerpt.
      size: Height and width of the frames in pixels.
      slots: Largest number of players; empty slots are zeros.
    """

    frames: int = bounded(1, most=MOST_PLAYERS)
    spacing: float = 1.2
    size: int = bounded(224, most=MOST_PIXELS)
    slots: int = bounded(7, most=MOST_PLAYERS)


@runtime_checkable
class ConditionedOnVideo(Protocol):
    """A system with `frames` among its cues.

    Its `condition` takes `frames` uint8 `[B, S, n, H, W, 3]`, or `features` float32 `[B, S, n, D]` in their place, and
    `slots` int32 `[B, S]`, the stem that the player in each slot plays, −1 for an empty slot.
    """

    @property
    def visual(self) -> PlayerFrames | None:
        """Which frames of each player it takes; None in a configuration without video."""
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A system whose paper, or author, says how it is adapted to a song.

    Systems conditioned on a query can be adapted without it, by their condition.
    """

    @property
    def adaptation(self) -> Adaptation:
        """The settings that `adapt` uses unless its options override them."""
        ...

    def adaptation_presets(self) -> dict[str, tuple[str, ...]]:
        """Return, by name, the sets of parameters that can be adapted, as path prefixes under `params`."""
        ...


@runtime_checkable
class EstimatesSpectrograms(Protocol):
    """A system whose `separate` is the inverse STFT of complex spectrograms, which a Wiener filter can start from."""

    def spectrograms(self, variables: Variables, mixture: Array, condition: Condition) -> Array:
        """Return the complex estimates `[B, S, N, F, C]` of a mixture `[B, T, C]`."""
        ...


TASKS: dict[str, type] = {
    "transcribe": Transcriber,
    "separate_by_score": ScoreInformedSeparator,
    "synthesize": Synthesizer,
}


def need(system: System, task: str) -> None:
    """Check that a system has a task.

    Raises:
      ValueError: if it has not; names the tasks that it has.
    """
    if task not in system.tasks:
        words = "it can " + ", ".join(system.tasks).replace("_", " ") if system.tasks else "it has no task of inference"
        remedy = "a --model that was trained with configs/lin2021.py" if task in TASKS else "another --model"
        raise ValueError(
            f"this model ({type(system).__name__}) cannot {task.replace('_', ' ')}, {words}: give {remedy}"
        )


def check_declared(system: System) -> None:
    """Check that a system has the members of the capabilities that it declares.

    Raises:
      ValueError: if one is missing; names it.
    """
    for task in system.tasks:
        if task in TASKS:
            _check_members(system, TASKS[task], f"'{task}' in its tasks")
    if "frames" in system.cues:
        _check_members(system, ConditionedOnVideo, "'frames' in its cues")


def transcriber(system: System) -> Transcriber:
    """Narrow a system to one that transcribes.

    Raises:
      ValueError: if it does not.
    """
    need(system, "transcribe")
    if not isinstance(system, Transcriber):
        raise _incomplete(system, Transcriber, "'transcribe' in its tasks")
    return system


def score_informed(system: System) -> ScoreInformedSeparator:
    """Narrow a system to one that separates a source with given notes.

    Raises:
      ValueError: if it does not.
    """
    need(system, "separate_by_score")
    if not isinstance(system, ScoreInformedSeparator):
        raise _incomplete(system, ScoreInformedSeparator, "'separate_by_score' in its tasks")
    return system


def synthesizer(system: System) -> Synthesizer:
    """Narrow a system to one that synthesizes given notes.

    Raises:
      ValueError: if it does not.
    """
    need(system, "synthesize")
    if not isinstance(system, Synthesizer):
        raise _incomplete(system, Synthesizer, "'synthesize' in its tasks")
    return system


def player_frames(system: System) -> PlayerFrames:
    """Return which video frames a system takes of each player.

    Raises:
      ValueError: if it is not conditioned on video.
    """
    visual = system.visual if isinstance(system, ConditionedOnVideo) else None
    if "frames" not in system.cues or visual is None:
        raise ValueError(f"this model ({type(system).__name__}) is not conditioned on video: give another --model")
    return visual


def adaptable(system: System) -> Adaptable:
    """Narrow a system to one that has settings of its own for the adaptation to a song.

    Raises:
      ValueError: if it has none.
    """
    if not isinstance(system, Adaptable):
        raise ValueError(
            f"{type(system).__name__} has no settings for adaptation: name the parameters to adapt by --trainable"
        )
    return system


@runtime_checkable
class AnyLength(Protocol):
    """A convolutional system, whose chunks may have another number of STFT frames than it was trained on."""

    def with_frames(self, frames: int) -> System:
        """Return the same system with chunks of `frames` STFT frames, for the same variables.

        Raises:
          ValueError: if the levels of the network do not divide the number of frames.
        """
        ...


def with_frames(system: System, frames: int) -> System:
    """Return the system with chunks of `frames` STFT frames.

    Raises:
      ValueError: if the length of its chunks is fixed, or its network does not divide the number of frames.
    """
    if not isinstance(system, AnyLength):
        raise ValueError(f"this model ({type(system).__name__}) has segments of one length: leave out --frames")
    return system.with_frames(frames)


def uses_stft(system: System) -> UsesStft:
    """Narrow a system to one that works on STFT frames.

    Raises:
      ValueError: if it does not.
    """
    if not isinstance(system, UsesStft):
        raise ValueError(f"this model ({type(system).__name__}) has no STFT: it works on the waveform")
    return system


def frame_rate_of(system: System) -> float:
    """Return how many STFT frames a system has per second.

    Raises:
      ValueError: if it does not work on STFT frames.
    """
    on_stft = uses_stft(system)
    return on_stft.sample_rate / on_stft.hop_length


def _check_members(system: System, protocol: type, declared: str) -> None:
    if not isinstance(system, protocol):
        raise _incomplete(system, protocol, declared)


def _incomplete(system: System, protocol: type, declared: str) -> ValueError:
    members = {name for name in dir(protocol) if not name.startswith("_")}
    missing = ", ".join(sorted(members - set(dir(system))))
    return ValueError(f"{type(system).__name__} has {declared} and lacks {missing} (protocol {protocol.__name__})")
