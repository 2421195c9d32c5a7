"""The experiments of Slizovskaia et al. 2021: `python -m benchmarks.papers.slizovskaia2021.NAME --runs …`.

hyperparameters  Table V: the experiments, from configs/slizovskaia2021.py
corpus           Table I: what there is of each instrument
tables           Tables II to IV, and the attempts of section 5.4: runs beside each other, with significance
figures          Figures 3 to 6
swap             whether a model that is shown the players looks at them

`tables` and `figures` read what `python -m qsep_jax.evaluate --protocol segments` left in the run folders and score
nothing anew.
"""
