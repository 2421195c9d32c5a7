"""Experiments of Stoller et al. 2018: the table of the slides, and what the critics say."""
