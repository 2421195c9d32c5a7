"""The experiments of Slizovskaia et al. 2021: `python -m benchmarks.papers.slizovskaia2021.NAME --runs …`.

hyperparameters  Table V: the experiments, from configs/slizovskaia2021.py
corpus           Table I: recordings, pieces and durations of each instrument
tables           Tables II to IV, and the attempts of section 5.4: comparison of runs, with significance
figures          Figures 3 to 6
swap             whether a model that is conditioned on video uses it
score            an accuracy record of a run: every score of every segment
summary          from records, Tables II to IV and the improvement over the mixture, with intervals

`tables` and `figures` read the scores that `qsep evaluate segments` has written to the run folders, or records, and
compute no scores. `python -m benchmarks.papers.slizovskaia2021` prepares, trains, scores and tabulates all experiments.
"""
