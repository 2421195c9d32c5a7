"""The experiments of Stoller et al. 2018: the table of the slides, and an analysis of the critics."""
