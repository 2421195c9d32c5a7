"""The systems in PyTorch, as peers to compare times with; they need `pip install 'qsep-jax[twins]'`."""
