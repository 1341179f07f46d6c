"""The output of a run: its log, its results, its figures, and programs that it reports to."""
