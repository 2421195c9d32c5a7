"""The experiment of Cantisani et al. 2021: the table of the slides, SDR before and after adaptation to songs."""
