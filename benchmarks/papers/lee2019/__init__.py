"""The experiments of Lee et al. 2019, one command each: `python -m benchmarks.papers.lee2019.targeting --workdir RUN`.

targeting      §4.3, Fig. 3: a source that was never labelled, asked for by an example of it
interpolation  §4.4, Fig. 4: on the way from one class mean to another
retrieval      §4.5, Fig. 6: the nearest training track against the class mean
iteration      §4.6: the estimate as the next query
table          §4.7, Table 1: beside the systems of SiSEC 2018
latents        Fig. 1 and Fig. 7: what the latents of the test tracks look like

Each prints a Markdown table and leaves it with `results.json`, a list of rows, and pictures in `RUN/lee2019/NAME`.
Scores of whole tracks are shared, one JSON per track in `RUN/lee2019/tracks`: nothing is separated twice.
"""
