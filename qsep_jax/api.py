"""The Python interface: load a trained model and use it on arrays and files. `docs/python.md` shows it at work."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.annotations import activation_files, activations, note_files
from data_pipelines.annotations.notes import notes_from_classes, transpose, voice_classes
from data_pipelines.audio.arrays import Audio, AudioArray, to_audio
from data_pipelines.audio.reading import AudioFile
from data_pipelines.audio.samples import fit_channels, resample, resample_blocks
from data_pipelines.names import choose
from data_pipelines.schema import check_name
from qsep_jax.command_line import requests
from qsep_jax.command_line.paths import output_paths
from qsep_jax.command_line.requests import Outputs, Request
from qsep_jax.evaluation.model_card import card
from qsep_jax.inference import adaptation, conditions, files
from qsep_jax.inference.adaptation_settings import settings_for
from qsep_jax.inference.bank import Bank
from qsep_jax.inference.files import Written
from qsep_jax.inference.model import Model, cache_compilations
from qsep_jax.inference.progress import Cancelled, Progress, counted, counter
from qsep_jax.inference.synthesis import TAIL, synthesize, transpose_to_register
from qsep_jax.inference.transcription import transcribe_blocks
from qsep_jax.runs import delta as delta_files
from qsep_jax.runs.bundle import Bundle, SavedModel, bundled_models, find_model, write_bundle
from qsep_jax.runs.folder import Step
from qsep_jax.systems import source_files
from qsep_jax.systems.base import Condition, System
from qsep_jax.systems.capabilities import frame_rate_of, need
from qsep_jax.systems.one_shot import CONDITION, Adaptation

__all__ = [
    "Cancelled",
    "ModelInfo",
    "Request",
    "Separator",
    "Synthesis",
    "Transcription",
    "list_models",
    "load",
]

# A recording: a path, or samples `[T]` or `[T, C]`.
Recording = str | Path | np.ndarray


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """A bundled model.

    Attributes:
      name: What `load` takes.
      system: Class name of its system.
      stems: Classes that it was trained on.
      cues: What it is conditioned on: `query`, `labels`, `frames` (video), `score`.
      tasks: What it can do: `separate`, `separate_by_score`, `transcribe`, `synthesize`.
      sample_rate: Hz; the outputs hold nothing above half of it.
    """

    name: str
    system: str
    stems: tuple[str, ...]
    cues: tuple[str, ...]
    tasks: tuple[str, ...]
    sample_rate: int


class Transcription(NamedTuple):
    """The notes of a source.

    Attributes:
      notes: `[n, 3]`: onset in s, offset in s, MIDI pitch.
      probabilities: `[N, 89]` of each frame: 88 pitches from A0, and silence.
      frame_rate: Frames per second.
    """

    notes: np.ndarray
    probabilities: np.ndarray
    frame_rate: float


class Synthesis(NamedTuple):
    """A source that plays a score.

    Attributes:
      audio: float32 `[T]` at the sample rate of the recording, as long as the score; its peak is 1 at most.
      semitones: By how much the score was transposed.
      register: MIDI pitch around which the source plays in the recording; None if it was not needed, or no note of the
        source was found.
      gain: What the audio was multiplied by, so that it does not clip.
    """

    audio: np.ndarray
    semitones: int
    register: float | None
    gain: float


def list_models() -> list[ModelInfo]:
    """The models that are bundled with the package."""
    models = []
    for name, saved in bundled_models().items():
        system = saved.experiment().system
        facts = (type(system).__name__, system.stems, tuple(system.cues), tuple(system.tasks), system.sample_rate)
        models.append(ModelInfo(name, *facts))
    return models


def load(
    model: str | Path = "",
    *,
    cue: str = "query",
    delta: str | Path | None = None,
    source: str | Path | None = None,
    step: Step = "best",
) -> "Separator":
    """Load a trained model.

    Only its configuration is read here; weights are read when they are first needed.

    Args:
      model: A bundle, a run folder (its best checkpoint) or the name of a bundled model; by default the bundled model
        that is conditioned on `cue`.
      delta: What `qsep adapt` wrote for a song: the model is used as it was adapted to that song.
      source: A Python file that defines the class of the model's system, for a model of somebody else whose system is
        not installed. The file is executed.
      step: Checkpoint of a run folder: its step, `"last"`, or `"best"`, which has the lowest validation loss.

    Raises:
      ValueError: if there is no such model or checkpoint, it is damaged, its system is unknown, or the delta is of
        another model.
    """
    if source is not None:
        source_files.load_named(Path(source))
    return Separator(find_model(str(model), cue, step), delta=None if delta is None else Path(delta))


class _Adaptation(NamedTuple):
    """What an adaptation to a song changed; without settings if it was read from a delta."""

    stems: tuple[str, ...]
    parameters: dict[str, np.ndarray]
    settings: Adaptation | None = None


class Separator:
    """A trained model. Its methods may be called from several threads at the same time.

    Audio is `[T]` or `[T, C]` in −1…1 with time first, at any sample rate from 8 to 192 kHz; int8, int16, int32 and
    uint8 samples are scaled by the full scale of their type. Every array that comes out has the sample rate, the length
    and the layout of the array that went in, in float32.
    """

    def __init__(self, saved: SavedModel, *, delta: Path | None = None):
        self.saved = saved
        self._experiment = saved.experiment()
        self._delta = delta
        self._lock = threading.RLock()
        self._model: Model | None = None
        self._bank: Bank | None = None
        self._adaptation: _Adaptation | None = None

    def __repr__(self) -> str:
        return f"Separator({type(self.system).__name__}, {str(self.saved.path)!r})"

    @property
    def name(self) -> str:
        """The name of the bundle or run folder."""
        return self.saved.path.resolve().name

    @property
    def system(self) -> System:
        """The system with its configuration."""
        return self._experiment.system

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model in Hz; the outputs hold nothing above half of it."""
        return self.system.sample_rate

    @property
    def stems(self) -> tuple[str, ...]:
        """Classes that the model was trained on; the stems that it gives where it gives all at once."""
        return self.system.stems

    @property
    def cues(self) -> tuple[str, ...]:
        """What the model is conditioned on: `query`, `labels`, `frames` (video), `score`."""
        return tuple(self.system.cues)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model can do: `separate`, `separate_by_score`, `transcribe`, `synthesize`."""
        return tuple(self.system.tasks)

    @property
    def labels(self) -> tuple[str, ...]:
        """What `label` and `labels` take: of a query-based model the classes that have a mean condition."""
        if "query" in self.cues:
            return tuple(self.bank.tracks) if self.saved.conditions.is_file() else ()
        return self.stems

    @property
    def model(self) -> Model:
        """The system with its variables on the local devices; read at first use.

        Raises:
          ValueError: if the weights are damaged, or the delta is of another model.
        """
        with self._lock:
            if self._model is None:
                cache_compilations()
                _, model = self.saved.load()
                if self._delta:
                    model, changes = delta_files.apply(model, self.saved, self._delta)
                    self._adaptation = _Adaptation(changes.stems, changes.parameters)
                self._model = model
            return self._model

    @property
    def bank(self) -> Bank:
        """The conditions of the training tracks; read at first use.

        Raises:
          ValueError: if the model has none, or the file is damaged.
        """
        with self._lock:
            if self._bank is None:
                self._bank = self.saved.bank(self.model)
            return self._bank

    def outputs(self, request: Request, report: Callable[[str], None] = lambda line: None) -> Outputs:
        """The outputs of a request, with the condition of each.

        Raises:
          ValueError: if the model cannot take the request, or a query, label, video or box cannot be used.
        """
        if not self._delta and not self._adaptation:
            requests.check(request, self.system)  # before the weights are loaded
        model = self.model
        adapted = model.variables["params"].get(CONDITION)
        if self._adaptation and adapted is not None:
            stems = self._adaptation.stems
            if request.labels or any(getattr(request, field) for field in requests.QUERY_FIELDS):
                raise ValueError(f"the model was adapted to separate {', '.join(stems)}: leave out queries and labels")
            return requests.outputs_for(stems, adapted)
        return requests.resolve(request, model, lambda: self.bank, report)

    def separate(
        self,
        audio: np.ndarray,
        sample_rate: int,
        *,
        query: Recording | Sequence[str | Path] | Mapping[str, Recording] | None = None,
        query_sample_rate: int | None = None,
        condition: Condition | None = None,
        label: str | None = None,
        labels: Sequence[str] = (),
        video: str | Path | None = None,
        boxes: str | Path | None = None,
        score: str | Path | np.ndarray | None = None,
        track: int | None = None,
        iterations: int = 0,
        wiener: int = 0,
        residual: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, np.ndarray]:
        """Separate a mixture into the sources that are named.

        Args:
          audio: The mixture, `[T]` or `[T, C]`.
          sample_rate: Hz.
          query: Recordings that sound like the sources: a path, several paths, an array, or a mapping of names to them.
            A path gives the output its stem as a name; an array is called `query`.
          query_sample_rate: Of queries that are arrays; by default that of the mixture.
          condition: A condition from `encode`, `mean` or `interpolate`; the output is called `condition`.
          label, labels: Classes, by the mean condition of their training tracks; for a model that is conditioned on
            labels, the instruments that play; for another one that gives all stems at once, those to keep.
          video, boxes: A video of the players, and a JSON file of where each player is in the picture.
          score: Notes of the source, a single voice: a MIDI or CSV file, or `[n, 3]` (onset s, offset s, MIDI pitch).
            Needs one query or condition.
          track: Which track of a MIDI file, from 1; by default all.
          iterations: Rounds of separating and encoding the estimate as the next query.
          wiener: Iterations of a multichannel Wiener filter over all outputs and the residual.
          residual: Whether to return what the outputs leave of the mixture as `residual`.
          progress: Called with the fraction that is done; returning False ends the work.

        Returns:
          float32 arrays in the shape of `audio`, by name.

        Raises:
          ValueError: if the audio, a query, label, video or score cannot be used; names the remedy.
          Cancelled: if `progress` returned False.
        """
        mixture = to_audio(audio, sample_rate)
        queries = requests.recordings(query, query_sample_rate or mixture.sample_rate)
        request = _request(queries, condition, label, labels, video, boxes, score, track, iterations, residual)
        outputs = self.outputs(request)
        blocks = self._separated(mixture, outputs, wiener, residual, counter(progress, mixture.frames))
        names = [*outputs.names, *["residual"] * residual]
        stems = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        shape = np.shape(audio)
        return {name: stem.reshape(shape).astype(np.float32) for name, stem in zip(names, stems, strict=True)}

    def separate_file(
        self,
        path: str | Path,
        out: str | Path,
        *,
        query: Sequence[str | Path] | str | Path | None = None,
        condition: Condition | None = None,
        label: str | None = None,
        labels: Sequence[str] = (),
        video: str | Path | None = None,
        boxes: str | Path | None = None,
        score: str | Path | np.ndarray | None = None,
        track: int | None = None,
        iterations: int = 0,
        wiener: int = 0,
        residual: bool = False,
        rescale: bool = False,
        name: str = "{track}/{stem}.{ext}",
        progress: Progress | None = None,
    ) -> dict[str, Path]:
        """Separate a file of any length in bounded memory; options as those of `separate`.

        Sample rate, channels, length, container and sample format of the input are kept (MP3 becomes WAV).

        Args:
          path: The mixture.
          out: Folder for the outputs.
          rescale: Whether all outputs are turned down by one gain if one of them would clip in an integer format;
            otherwise its peaks are cut off.
          name: Path of an output below `out`, from `{track}`, `{stem}` and `{ext}`.

        Returns:
          The path of each output, by name.

        Raises:
          ValueError: as `separate`; if the file cannot be read or is silent, or an output would overwrite an input.
          OSError: if an output cannot be written; none is left behind then.
          Cancelled: if `progress` returned False.
        """
        mixture = AudioFile(path)
        queries = requests.recordings(query, 0)
        request = _request(queries, condition, label, labels, video, boxes, score, track, iterations, residual)
        outputs = self.outputs(request)
        names = [*outputs.names, *["residual"] * residual]
        inputs = [Path(source.name) for source in queries.values()]
        inputs += [Path(other) for other in (video, boxes, score) if isinstance(other, str | Path)]
        (paths,) = output_paths({mixture.path: mixture.path.stem}, names, Path(out), name, inputs).values()
        advance = counter(progress, mixture.frames)
        self.write(mixture, outputs, paths, wiener=wiener, residual=residual, rescale=rescale, advance=advance)
        return dict(zip(names, paths, strict=True))

    def write(
        self,
        mixture: AudioFile,
        outputs: Outputs,
        paths: Sequence[Path],
        *,
        wiener: int = 0,
        residual: bool = False,
        rescale: bool = False,
        advance: files.Advance = lambda samples: None,
        publish: files.Publish = lambda written: contextlib.nullcontext(),
    ) -> list[Written]:
        """Separate a file into outputs that were resolved before, a path for each; what `separate_file` does inside.

        Raises:
          ValueError: if the file cannot be read or is silent, or a path asks for a format that cannot be written.
          OSError: if an output cannot be written.
        """

        def separate(audio: Audio) -> Iterator[list[np.ndarray]]:
            return self._separated(audio, outputs, wiener, residual, advance)

        return files.write_separated(mixture, paths, separate, rescale=rescale, publish=publish)

    def encode(self, query: Recording | AudioArray, sample_rate: int | None = None) -> Condition:
        """The condition of a query: the mean over its windows (Lee et al. 2019, Eq. 2), a tree of `[1, …]`.

        Args:
          sample_rate: Hz, of an array.

        Raises:
          ValueError: if the model is not conditioned on queries, or the query is silent or cannot be read.
        """
        self._need_queries()
        (audio,) = requests.recordings(query, sample_rate or 0).values()
        return requests.encode_query(self.model, audio)

    def mean(self, label: str) -> Condition:
        """The mean condition of the training tracks of a class.

        Raises:
          ValueError: if the model is not conditioned on queries, or was not trained on the class.
        """
        self._need_queries()
        return self.bank.mean(label)

    @staticmethod
    def interpolate(first: Condition, second: Condition, alpha: float) -> Condition:
        """Spherical interpolation from `first` (`alpha` 0) to `second` (1) (Lee et al. 2019, Eq. 7)."""
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
        return conditions.slerp(first, second, alpha)

    def transcribe(
        self,
        audio: np.ndarray,
        sample_rate: int,
        *,
        query: Recording | None = None,
        query_sample_rate: int | None = None,
        condition: Condition | None = None,
        shortest: float = 0.05,
        progress: Progress | None = None,
    ) -> Transcription:
        """Transcribe a source of a mixture, a single voice (Lin et al. 2021).

        Args:
          query, query_sample_rate, condition: The source, as in `separate`.
          shortest: Seconds below which a note is left out.

        Raises:
          ValueError: if the model does not transcribe, or the audio or the query cannot be used.
          Cancelled: if `progress` returned False.
        """
        need(self.system, "transcribe")
        mixture = to_audio(audio, sample_rate)
        queries = requests.recordings(query, query_sample_rate or mixture.sample_rate)
        _, encoded = self._one_condition(queries, condition)
        at_rate = resample_blocks(
            counted(mixture, counter(progress, mixture.frames)), mixture.sample_rate, self.sample_rate
        )
        probabilities = np.concatenate(list(transcribe_blocks(self.model, at_rate, encoded)))
        frame_rate = frame_rate_of(self.system)
        notes = notes_from_classes(probabilities.argmax(axis=1), frame_rate, shortest)
        return Transcription(notes, probabilities, frame_rate)

    def synthesize(
        self,
        audio: np.ndarray,
        sample_rate: int,
        *,
        score: str | Path | np.ndarray,
        query: Recording | None = None,
        query_sample_rate: int | None = None,
        condition: Condition | None = None,
        track: int | None = None,
        semitones: int | None = None,
        iterations: int = 200,
        momentum: float = 0.0,
    ) -> Synthesis:
        """Let a source of a recording play a score, a single voice (Lin et al. 2021).

        Args:
          audio: A mixture in which the source sounds; it is repeated or cut to the length of the score.
          score, track: The notes, as in `separate`.
          query, query_sample_rate, condition: The source, as in `separate`.
          semitones: Transposition of the score; by default whole octaves, to the register of the source.
          iterations, momentum: Of Griffin-Lim, which computes the phase.

        Raises:
          ValueError: if the model does not synthesize, or the audio, the query or the score cannot be used.
        """
        need(self.system, "synthesize")
        recording = to_audio(audio, sample_rate)
        queries = requests.recordings(query, query_sample_rate or recording.sample_rate)
        _, encoded = self._one_condition(queries, condition)
        notes, name = note_files.voice_of(score, track)
        frame_rate, rate = frame_rate_of(self.system), self.sample_rate
        seconds = float(notes[:, 1].max()) + TAIL
        if semitones is not None:
            notes = transpose(notes, semitones)
            voice_classes(notes, name, frame_rate)  # refused before the weights are loaded
        at_rate = resample(recording.samples, recording.sample_rate, rate)[: int(np.ceil(seconds * rate))]
        if not conditions.is_loud(at_rate):
            raise ValueError(
                f"{recording.name}: is silent for the length of the score: there is no timbre to play it with"
            )
        register = None
        if semitones is None:
            notes, semitones, register = transpose_to_register(self.model, notes, name, at_rate, encoded)
        classes = voice_classes(notes, name, frame_rate, TAIL)
        played = synthesize(self.model, at_rate, encoded, classes, iterations, momentum)
        played = resample(played, rate, recording.sample_rate)[:, 0]
        gain = 1.0 / max(1.0, float(np.abs(played).max()))
        return Synthesis((gain * played).astype(np.float32), semitones, register, gain)

    def adapt(
        self,
        audio: np.ndarray,
        sample_rate: int,
        activations_of_stems: str | Path | Mapping[str, Sequence[tuple[float, float]]],
        *,
        labels: Sequence[str] = (),
        queries: Mapping[str, Recording] | None = None,
        preset: str = "",
        trainable: Sequence[str] = (),
        learning_rate: float | None = None,
        seed: int = 42,
        progress: Progress | None = None,
        **settings: Any,
    ) -> "Separator":
        """Fine-tune the model on one song, by when each stem sounds in it (Cantisani et al. 2021).

        Args:
          activations_of_stems: A CSV file or Audacity label track, or for each stem its spans (start s, end s). A stem
            that is not named counts as sounding throughout.
          labels, queries: The stems of a query-based model, two or more: classes, and recordings by name.
          preset: Which parameters are trained: a strategy of the model's paper, such as `l3`.
          trainable: The same as prefixes of parameters.
          settings: Other fields of `systems.one_shot.Adaptation`: `epochs`, `seconds`, `hop`, `weight`,
            `pitch_copies`, ….

        Returns:
          A separator of the adapted model; this one stays as it is. `save` or `save_delta` keeps it.

        Raises:
          ValueError: if the model cannot be adapted in this way, or the activations leave nothing to learn.
          Cancelled: if `progress` returned False.
        """
        song = to_audio(audio, sample_rate, "the song")
        rate, channels = self.sample_rate, self.system.input_channels
        chosen = settings_for(self.system, preset, trainable=tuple(trainable), learning_rate=learning_rate, **settings)
        stems, encoded = self.stems_to_adapt(labels, list(requests.recordings(queries, song.sample_rate).items()))
        mixture = resample(song.samples, song.sample_rate, rate)
        mixture = fit_channels(mixture, channels if channels > 1 else mixture.shape[1])
        spans, source = activation_files.spans_of(activations_of_stems, stems, song.frames / song.sample_rate)
        active = activations.from_spans(spans, stems, len(mixture), rate)
        activations.check_has_rest(active, stems, source)
        songs = [adaptation.Song("song", mixture, active)]
        total = adaptation.count_updates(songs, self.system, chosen)
        (result,) = adaptation.adapt(
            self.model, songs, chosen, conditions=encoded, seed=seed, advance=counter(progress, total)
        )
        changed = adaptation.delta_parameters(self.model, result, encoded)
        adapted = Separator(self.saved)
        adapted._model = adaptation.with_parameters(self.model, changed)
        adapted._adaptation = _Adaptation(stems, changed, chosen)
        return adapted

    def stems_to_adapt(
        self, labels: Sequence[str], queries: Sequence[tuple[str, Audio]]
    ) -> tuple[tuple[str, ...], Condition | None]:
        """The stems of an adaptation and, of a query-based model, the condition of each, `[S, …]`.

        Raises:
          ValueError: if a query-based model gets fewer than two stems or two of one name, or another one gets any.
        """
        if labels and "query" in self.cues:
            labels = [choose(label, self.bank.tracks) for label in labels]
        names, kind = (*labels, *(name for name, _ in queries)), type(self.system).__name__
        if "query" not in self.cues:
            if self.cues:
                raise ValueError(
                    f"this model ({kind}) is conditioned on {self.cues[0]}: only models without a condition and "
                    "query-based models can be adapted"
                )
            if names:
                raise ValueError(f"this model ({kind}) is not conditioned on queries: leave out labels and queries")
            return self.stems, None
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                "a query-based model is adapted for two or more stems, labels or queries of different names, not "
                f"{', '.join(names) or 'none'}"
            )
        for name in names:
            check_name(name, "the name of a stem of the adaptation")
        parts = [self.bank.mean(label) for label in labels]
        parts += [requests.encode_query(self.model, audio) for _, audio in queries]
        return names, np.concatenate(parts)

    def save(self, path: str | Path, *, licence: str = "not stated", note: str = "") -> Path:
        """Write the model as a bundle, a folder that `load` and every command take.

        Args:
          licence, note: For the model card, if the model comes from a run folder.

        Raises:
          ValueError: if the path exists, or conditions were adapted, which only a delta can hold.
          OSError: if it cannot be written; nothing is left behind then.
        """
        if self._adaptation and CONDITION in self.model.variables["params"]:
            raise ValueError("conditions that were adapted to a song are kept as a delta: call save_delta(path)")
        if isinstance(self.saved, Bundle):
            text = self.saved.card.read_text()
        else:
            self.saved.keep_bank(self.model)
            text = card(self.saved, self._experiment, self.model.variables, Path(path).name, licence, note)
        return write_bundle(Path(path), self._experiment, self.model.variables, self.saved.conditions, text).path

    def save_delta(self, path: str | Path) -> Path:
        """Write what an adaptation changed; `load(…, delta=path)` and `qsep separate --delta` use it.

        Raises:
          ValueError: if the model was not adapted.
          OSError: if the file cannot be written.
        """
        changes = self._adaptation
        if changes is None or changes.settings is None:
            raise ValueError("this model was not adapted to a song: adapt returns a separator that was")
        original = Separator(self.saved).model
        delta_files.write(Path(path), changes.parameters, changes.stems, changes.settings, self.saved, original)
        return Path(path)

    def _separated(
        self, mixture: Audio, outputs: Outputs, wiener: int, residual: bool, advance: files.Advance
    ) -> Iterator[list[np.ndarray]]:
        """The stems of a mixture at its own rate, in blocks."""
        if wiener < 0:
            raise ValueError(f"wiener must be 0 or more, not {wiener}")
        if outputs.classes is not None and wiener:
            raise ValueError("a score is used with a query alone: leave out wiener")

        def at_rate() -> Iterator[np.ndarray]:
            return files.mixture_at(mixture, self.sample_rate)

        conditions_of_mixture = [condition(at_rate, mixture.channels) for condition in outputs.conditions]
        if outputs.classes is not None:
            (encoded,) = conditions_of_mixture
            return files.separated_by_score(mixture, self.model, encoded, outputs.classes, advance=advance)
        return files.separated(
            mixture,
            self.model,
            conditions_of_mixture,
            wiener_iterations=wiener,
            stems=outputs.stems,
            residual=residual,
            advance=advance,
        )

    def _need_queries(self) -> None:
        if "query" not in self.cues:
            raise ValueError(
                f"this model ({type(self.system).__name__}) is not conditioned on queries, but on "
                f"{', '.join(self.cues) or 'nothing'}"
            )

    def _one_condition(self, queries: dict[str, Audio], condition: Condition | None) -> tuple[str, Condition]:
        """Name and condition of the single source."""
        if len(queries) + (condition is not None) != 1:
            raise ValueError(f"give one query or one condition of the source, not {len(queries)} queries")
        if condition is not None:
            return "condition", condition
        ((name, audio),) = queries.items()
        return name, requests.encode_query(self.model, audio)


def _request(
    queries: dict[str, Audio],
    condition: Condition | None,
    label: str | None,
    labels: Sequence[str],
    video: str | Path | None,
    boxes: str | Path | None,
    score: str | Path | np.ndarray | None,
    track: int | None,
    iterations: int,
    residual: bool,
) -> Request:
    """The request of a caller's arguments."""
    if isinstance(labels, str):
        raise ValueError(f"labels are several: give label='{labels}' or labels=['{labels}']")
    if track is not None and score is None:
        raise ValueError("track selects a track of a score: give the score, too")
    return Request(
        queries=queries,
        conditions={} if condition is None else {"condition": condition},
        labels=tuple(labels) if label is None else (label, *labels),
        video=None if video is None else Path(video),
        boxes=None if boxes is None else Path(boxes),
        score=None if score is None else note_files.voice_of(score, track),
        iterations=iterations,
        residual=residual,
    )
