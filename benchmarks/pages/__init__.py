"""Compute tables and figures of the documentation: `python -m fastclip.benchmarks.pages`.

accumulation   the gradient of accumulated micro-batches against the gradient of one loss
over_ranks     the gradient that an optimiser sees after DDP's mean, per library and flags
rounding       what float32 and 16 bits do to a loss, and to its gradient
figure         draws the figure of `rounding`
tables         writes tables in Markdown to their places in pages
"""
