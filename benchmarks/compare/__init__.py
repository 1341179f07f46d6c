"""`fastclip bench compare`: compare two results, or providers of one, by medians of ratios."""
