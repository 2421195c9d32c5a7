"""A tiny query-based model as a bundle and as a delta, with random variables: nothing is compiled or trained."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

from qsep_jax.inference.bank import Bank
from qsep_jax.inference.model import Model, condition_shapes
from qsep_jax.runs.bundle import Bundle, identity, write_bundle
from qsep_jax.runs.experiment import Experiment
from qsep_jax.systems.one_shot import CONDITION
from qsep_jax.systems.shapes import variable_shapes
from tests.experiments import debug


@functools.cache
def tiny_model() -> tuple[Experiment, Model]:
    """The debug variant of `lee2019.py` with random variables."""
    experiment, rng = debug("lee2019.py"), np.random.default_rng(0)
    shapes = variable_shapes(experiment.system)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
    return experiment, Model(experiment.system, variables)


def tiny_bundle(folder: Path) -> Bundle:
    """Write the model as the bundle `folder`, with conditions of two tracks of each stem."""
    experiment, model = tiny_model()
    like, rng = condition_shapes(model), np.random.default_rng(1)
    tracks = {
        stem: {
            track: jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), like)
            for track in ("a song", "another - song")
        }
        for stem in experiment.system.stems
    }
    conditions = folder.parent / f"{folder.name}.npz"
    conditions.parent.mkdir(parents=True, exist_ok=True)
    Bank(tracks).save(conditions)
    return write_bundle(folder, experiment, model.variables, conditions, "# tiny\n")


def tiny_delta(path: Path, bundle: Bundle, **changes: object) -> Path:
    """Write a delta of the bundle's model for two stems: its conditions and a parameter, or `changes` of its facts."""
    _, model = bundle.load()
    leaf = condition_shapes(model)
    parameters = {CONDITION: np.zeros((2, *leaf.shape[1:]), np.float32)}
    facts = {"stems": ["bass", "drums"], "base": identity(bundle, model, None), "adaptation": {}}
    for name, value in changes.items():
        if name in facts:
            facts[name] = value
        else:
            parameters[name.replace("__", "/")] = np.asarray(value)
    safetensors.numpy.save_file(parameters, path, {name: json.dumps(value) for name, value in facts.items()})
    return path
