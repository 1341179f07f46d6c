"""What features score, without a model: numbers with their intervals.

    zero_shot, retrieval           the two tasks
    classified, average_precision  what is right of images with one label, and with several
    retrieved                      what is found of images and of texts
    comparison                     two models on the same images
    rate, bootstrap                how certain a number is
    arguments                      what the functions take, checked

The functions are attributes of `fastclip.evaluate`.
"""
