"""Tables and figures of the documentation, computed: `python -m fastclip.benchmarks.pages`.

accumulation   the gradient of accumulated micro-batches against that of one loss over all pairs
over_ranks     the gradient that an optimiser sees after DDP's mean, per library and flags
rounding       what float32 and 16 bits do to a loss, and to its gradient
figure         the figure of `rounding`
tables         tables in Markdown, and where pages have them
"""
