"""Scores of features, without a model: metrics with their confidence intervals.

    zero_shot, retrieval           the two tasks
    classified, average_precision  results for images with one label, and with several
    retrieved                      results of retrieval in both directions
    comparison                     two models on the same images
    rate, bootstrap                how certain a rate is
    arguments                      checks of the functions' arguments

The functions are attributes of `fastclip.evaluate`.
"""
