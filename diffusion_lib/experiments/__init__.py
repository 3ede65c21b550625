"""What made the committed numbers and weights: one file an experiment, and one command for all of them.

    python -m diffusion_lib.experiments                                what there is
    python -m diffusion_lib.experiments NAME [--seeds ..] [--folder ..]

NAME is that of the file of results (`measured.read(NAME)`); without --folder the committed file is made anew. Lessons
11 and 12 also call the parts of an experiment that are quick: the contestants of `bench`, the counters of `dots`.
"""
