"""What the losses share: checked inputs, a scale, and log-sum-exps of rectangles of scores.

Each loss is a module of `fastclip.losses`. None of them holds the scores of all pairs of features.
"""
