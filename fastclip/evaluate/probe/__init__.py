"""Linear probes: how well a linear classifier does on features.

    objective      the function that is minimised, in blocks of rows
    fit            its minimum, by L-BFGS
    parts          features with labels, and their division into parts
    training       probes that are trained on one part, and their answers
    c_search       the strength of the penalty that is best on a validation part
    protocol       the steps from parts to a result
    linear_probe   a probe with all images
    few_shot       probes with k images of each class

`linear_probe` and `few_shot` are attributes of `fastclip.evaluate`.
"""
