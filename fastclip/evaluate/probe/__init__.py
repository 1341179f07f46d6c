"""Linear probes: how much a linear classifier can read off features.

    objective      what is minimised, in blocks of rows
    fit            its minimum, by L-BFGS
    parts          features with labels, and how they are divided
    training       probes of one part, and what they answer
    c_search       which strength of the penalty is best on a validation part
    protocol       the steps from parts to a result
    linear_probe   a probe with all images
    few_shot       probes with k images of each class

`linear_probe` and `few_shot` are attributes of `fastclip.evaluate`.
"""
