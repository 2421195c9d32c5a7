"""Conditioned music source separation on accelerators, in JAX and Flax."""

__version__ = "0.1.0"
