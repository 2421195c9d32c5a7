"""Where the players are in the picture of a video, for a model that is conditioned on video."""

from pathlib import Path

from data_pipelines.names import match
from data_pipelines.video.files import Box, read_boxes


def boxes_of(path: Path, video: Path, stems: tuple[str, ...]) -> dict[str, Box]:
    """The boxes of the players in a video; either all or none of them are named by stems of the model.

    Raises:
      ValueError: if the file cannot be read, has no boxes of the video, or names some players by stems and others not.
    """
    groups = read_boxes(path)
    boxes = groups.get("") or groups.get(video.stem)
    if not boxes:
        known = ", ".join(name for name in groups if name) or "none"
        raise ValueError(
            f"{path} has no boxes of the video '{video.stem}', but of {known}: use the name of the video, or a file "
            "with one set of boxes"
        )
    count = len(boxes)
    boxes = {match(name, stems) or name: box for name, box in boxes.items()}
    if len(boxes) < count:
        raise ValueError(f"{path} has two boxes of one stem, which differ in case alone: remove one")
    unknown = [name for name in boxes if name not in stems]
    if unknown and len(unknown) < len(boxes):
        raise ValueError(
            f"{path}: '{unknown[0]}' is no stem of this model, but other boxes are named by stems: name all players by "
            f"their stems, or none; the stems are {', '.join(stems)}"
        )
    return boxes
