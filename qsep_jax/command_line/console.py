"""The console of the commands that compile: what `data_pipelines.console` offers, and a compilation cache."""

import os
from pathlib import Path

import jax

from data_pipelines.console import in_words, need_positive, parse, run

__all__ = ["cache_compilations", "in_words", "need_positive", "parse", "run"]


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "qsep_jax" / "compiled"))
