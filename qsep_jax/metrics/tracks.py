"""The scores of a track as a file, in museval's layout, and the rows of a table from many of them."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsep_jax.metrics.aggregate import summarize_tracks
from qsep_jax.metrics.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class TrackScores:
    """Scores of one estimate of one track: `{stem: {metric: [frames]}}` in dB.

    Attributes:
      estimate: `model_mean`, `mixture`, `irm` …
      facts: what the scores depend on: the model, the corpus, or the files.
    """

    track: str
    estimate: str
    protocol: Protocol
    facts: dict[str, Any]
    stems: dict[str, dict[str, np.ndarray]]

    def to_json(self) -> str:
        """Museval's layout (`targets`, `frames`, `metrics`), so that its aggregation reads it; NaN where not scored.

        A protocol without frames has a single one; its `duration` is null, the length of the track.
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
        about = {"track": self.track, "estimate": self.estimate, "facts": self.facts}
        return json.dumps({"targets": targets, **about, "protocol": dataclasses.asdict(self.protocol)}, indent=1)

    @staticmethod
    def from_json(text: str, where: str) -> "TrackScores":
        """What `to_json` wrote.

        Raises:
          ValueError: if it is damaged; `where` names it.
        """
        try:
            content = json.loads(text)
            stems = {}
            for target in content["targets"]:
                names = target["frames"][0]["metrics"] if target["frames"] else ()
                frames = [frame["metrics"] for frame in target["frames"]]
                stems[target["name"]] = {name: np.array([frame[name] for frame in frames]) for name in names}
            protocol = Protocol(**content["protocol"])
            return TrackScores(content["track"], content["estimate"], protocol, content["facts"], stems)
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(f"{where} is damaged: delete it, and the track is scored again") from None


def improvements(scores: TrackScores, mixture: TrackScores) -> TrackScores:
    """With `…_improvement` of the first metric, frame by frame, over the untouched mixture."""
    name = scores.protocol.metrics[0]
    stems = {
        stem: {**found, f"{name}_improvement": found[name] - mixture.stems[stem][name]}
        for stem, found in scores.stems.items()
    }
    return dataclasses.replace(scores, stems=stems)


def rows(scored: Sequence[TrackScores], run: str, corpus: str, split: str) -> list[dict[str, Any]]:
    """Rows of `results.json`: for each estimate, stem and metric the summary over tracks of medians over frames.

    `all` pools the stems. A metric that no track has a score for gives no row.
    """
    found: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for track in scored:
        for stem, metrics in track.stems.items():
            for metric, values in metrics.items():
                found.setdefault((track.estimate, "all", metric), []).append(values)
                found.setdefault((track.estimate, stem, metric), []).append(values)
    place = {"run": run, "corpus": corpus, "split": split, "protocol": str(scored[0].protocol)}
    table = []
    for (estimate, stem, metric), frames in found.items():
        if not all(np.isnan(values).all() for values in frames):
            summary = dataclasses.asdict(summarize_tracks(frames))
            table.append({**place, "estimate": estimate, "stem": stem, "metric": metric, **summary})
    return table
