"""The settings with which a system is adapted to songs, from its own settings, a preset and overrides."""

import dataclasses
import warnings
from typing import Any

from qsep_jax.systems.base import RANGER, System
from qsep_jax.systems.capabilities import Adaptable
from qsep_jax.systems.one_shot import CONDITION, Adaptation

# Default learning rate of a condition, which has far fewer parameters than a network.
CONDITION_LEARNING_RATE = 1e-2


def settings_for(
    system: System,
    preset: str = "",
    *,
    trainable: tuple[str, ...] = (),
    learning_rate: float | None = None,
    **fields: Any,
) -> Adaptation:
    """The settings of the adaptation of a system.

    The defaults are the system's own settings. A query-based system without settings is adapted by its condition.

    Args:
      preset: Name of a set of trained parameters in the system's paper (`adaptation_presets`).
      trainable: Trained parameters as path prefixes under `params`, instead of a preset.
      learning_rate: Learning rate; None leaves it unchanged.
      fields: Other fields of `Adaptation`; None leaves a field unchanged. `shifts`, the earlier name of `pitch_copies`,
        still works, with a warning.

    Raises:
      ValueError: if the system does not have the preset, a field is unknown, or a value is out of its range.
    """
    settings = _default_settings(system, trainable)
    if preset:
        presets = system.adaptation_presets() if isinstance(system, Adaptable) else {}
        if preset not in presets:
            known = ", ".join(presets) or "none"
            raise ValueError(f"unknown split '{preset}': {type(system).__name__} has {known}")
        settings = settings.changed(trainable=presets[preset])
    old_name = fields.pop("shifts", None)
    if old_name is not None:
        if fields.get("pitch_copies") is not None:
            raise ValueError("shifts is the earlier name of pitch_copies: give pitch_copies only")
        fields["pitch_copies"] = old_name
        warnings.warn("shifts is now called pitch_copies (--pitch-copies): use the new name", stacklevel=2)
    unknown = set(fields) - {field.name for field in dataclasses.fields(Adaptation)}
    if unknown:
        raise ValueError(f"an adaptation has no field '{min(unknown)}'")
    return settings.changed(learning_rate, trainable=trainable or None, **fields)


def _default_settings(system: System, trainable: tuple[str, ...]) -> Adaptation:
    if isinstance(system, Adaptable):
        return system.adaptation
    if "query" in system.cues or trainable:
        # Gradient centralisation would remove the mean gradient over stems: the mean condition would not change.
        optimizer = dataclasses.replace(RANGER, learning_rate=CONDITION_LEARNING_RATE, centralize=False)
        return Adaptation((CONDITION,), seconds=0.0, optimizer=optimizer)
    raise ValueError(f"{type(system).__name__} has no settings for adaptation: name trainable parameters")
