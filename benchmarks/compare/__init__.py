"""`fastclip bench compare`: two results, or two providers of one, judged by medians of ratios."""
