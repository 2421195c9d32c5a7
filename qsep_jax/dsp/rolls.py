"""Conversion of notes to one pitch class per frame."""

import jax.numpy as jnp
from jax import Array

from data_pipelines.schema import CLASSES, LOWEST_PITCH, SILENCE_CLASS


def frame_classes(notes: Array, frames: int, frame_rate: float) -> Array:
    """Convert notes `[..., M, 3]` (onset s, offset s, MIDI pitch) to classes `[..., frames]` int32.

    A note covers the frames from ⌊onset · rate⌋ up to but not including ⌊offset · rate⌋, and at least one frame. Where
    notes overlap, the later row counts; frames without a note get `SILENCE_CLASS`. Rows whose offset is not after
    their onset are padding. These are the rules of the code of Lin et al. 2021.
    """
    # The small addition compensates the rounding of float32: 0.29 s at 100 frames/s is frame 29.
    first = jnp.floor(notes[..., 0] * frame_rate + 1e-4)[..., None, :]
    last = jnp.maximum(jnp.floor(notes[..., 1] * frame_rate + 1e-4)[..., None, :], first + 1)
    frame = jnp.arange(frames, dtype=jnp.float32).reshape((1,) * (notes.ndim - 2) + (frames, 1))
    is_note = (notes[..., 1] > notes[..., 0])[..., None, :]
    sounding = (frame >= first) & (frame < last) & is_note
    count = notes.shape[-2]
    order = jnp.arange(1, count + 1).reshape((1,) * (notes.ndim - 1) + (count,))
    latest = jnp.where(sounding, order, 0).max(-1)
    pitch = jnp.take_along_axis(notes[..., 2], jnp.maximum(latest - 1, 0), axis=-1)
    classes = jnp.clip(jnp.round(pitch).astype(jnp.int32) - LOWEST_PITCH, 0, CLASSES - 2)
    return jnp.where(latest > 0, classes, SILENCE_CLASS)
