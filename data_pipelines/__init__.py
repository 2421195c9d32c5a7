"""From files on disk to batches of waveforms: numpy, grain, tensorflow-datasets, soundfile; never jax."""
