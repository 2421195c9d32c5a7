"""Scores of a track, their JSON file in museval's layout, and the rows of `results.json` from many tracks."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import read_json
from qsep_jax.metrics.aggregate import summarize_tracks
from qsep_jax.metrics.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class TrackScores:
    """Scores of one kind of estimate of one track.

    Attributes:
      track: Name of the track.
      estimate: Kind of estimate, such as `model_mean`, `mixture` or `irm`.
      protocol: Protocol that the scores were computed by.
      facts: Everything else that the scores depend on: the model and the corpus, or the files.
      stems: Scores in dB, `{stem: {metric: [frames]}}`; NaN where there is no score.
    """

    track: str
    estimate: str
    protocol: Protocol
    facts: dict[str, Any]
    stems: dict[str, dict[str, np.ndarray]]

    def to_json(self) -> str:
        """The scores in museval's layout (`targets`, `frames`, `metrics`), which museval's aggregation reads.

        A protocol without frames gives a single frame with a `duration` of null, which stands for the whole track.
        """
        targets = []
        for stem, scores in self.stems.items():
            count = len(next(iter(scores.values())))
            frames = [
                {
                    "time": frame * self.protocol.hop,
                    "duration": self.protocol.window if self.protocol.framed else None,
                    "metrics": {metric: float(values[frame]) for metric, values in scores.items()},
                }
                for frame in range(count)
            ]
            targets.append({"name": stem, "frames": frames})
        description = {"track": self.track, "estimate": self.estimate, "facts": self.facts}
        return json.dumps({"targets": targets, **description, "protocol": dataclasses.asdict(self.protocol)}, indent=1)

    @staticmethod
    def from_file(path: Path) -> "TrackScores":
        """Read a file that holds the text of `to_json`.

        Raises:
          ValueError: if the file is missing or damaged.
        """
        remedy = "delete it, and the track is scored again"
        content = read_json(path, remedy)
        try:
            stems = {}
            for target in content["targets"]:
                names = target["frames"][0]["metrics"] if target["frames"] else ()
                frames = [frame["metrics"] for frame in target["frames"]]
                stems[target["name"]] = {name: np.array([frame[name] for frame in frames]) for name in names}
            protocol = Protocol(**content["protocol"])
            return TrackScores(content["track"], content["estimate"], protocol, content["facts"], stems)
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(f"{path} is damaged: {remedy}") from None


def with_improvement(scores: TrackScores, mixture: TrackScores) -> TrackScores:
    """Add the metric `…_improvement`: the first metric minus its score for the untouched mixture, frame by frame."""
    name = scores.protocol.metrics[0]
    stems = {
        stem: {**metrics, f"{name}_improvement": metrics[name] - mixture.stems[stem][name]}
        for stem, metrics in scores.stems.items()
    }
    return dataclasses.replace(scores, stems=stems)


def summary_rows(scored: Sequence[TrackScores], run: str, corpus: str, split: str) -> list[dict[str, Any]]:
    """The rows of `results.json`: for each estimate, stem and metric a summary over tracks of medians over frames.

    The stem `all` pools all stems. A metric that no track has a score for gives no row.
    """
    frames_of: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for scores in scored:
        for stem, metrics in scores.stems.items():
            for metric, frames in metrics.items():
                frames_of.setdefault((scores.estimate, "all", metric), []).append(frames)
                frames_of.setdefault((scores.estimate, stem, metric), []).append(frames)
    context = {"run": run, "corpus": corpus, "split": split, "protocol": str(scored[0].protocol)}
    rows = []
    for (estimate, stem, metric), frames in frames_of.items():
        if not all(np.isnan(values).all() for values in frames):
            summary = dataclasses.asdict(summarize_tracks(frames))
            rows.append({**context, "estimate": estimate, "stem": stem, "metric": metric, **summary})
    return rows
