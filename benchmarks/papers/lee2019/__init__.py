"""The experiments of Lee et al. 2019, one command each: `python -m benchmarks.papers.lee2019.targeting --workdir RUN`.

targeting      §4.3, Fig. 3: query-based separation of sources that were never a class of their own
interpolation  §4.4, Fig. 4: interpolation between two class means
retrieval      §4.5, Fig. 6: the nearest training track as the query, compared with the class mean
iteration      §4.6: the estimate as the next query
table          §4.7, Table 1: comparison with the systems of SiSEC 2018
latents        Fig. 1 and Fig. 7: the latents of the test tracks

Each command prints a Markdown table and writes it with `results.json`, a list of rows, and figures to
`RUN/lee2019/NAME`. The commands share the scores of complete tracks, one JSON file per track in `RUN/lee2019/tracks`,
so that no track is separated twice.
"""
