"""The same systems in PyTorch, as peers to be timed against; needs `pip install 'qsep-jax[twins]'`."""
