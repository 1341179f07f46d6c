"""What the contrastive losses share: inputs, a scale, and log-sum-exps of rectangles of scores.

Each loss is a file of `fastclip.losses`; none holds as many scores as there are pairs of features.
"""
