"""`fastclip verify`: find out which kernels are right on the user's GPU, and how fast they are.

`measure.py` checks and times one set of kernels, in its own process. `verification.py` watches the
processes and derives verdicts, which go to the user's file (`backends/gpu/own_verdicts.py`).
`words.py` has the texts.
"""
