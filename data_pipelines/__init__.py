"""Preparation of corpora and batches of waveforms with numpy, grain, tensorflow-datasets and soundfile; never jax."""
