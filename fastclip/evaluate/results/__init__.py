"""The results of an evaluation, as files for other programs and as tables for people.

result        the numbers of a task, with everything that they depend on
outcomes      which single images were right, in a compact form
formats       lines of JSON in the formats of fastclip, CLIP_benchmark and DataComp
datacomp      names and main metrics of DataComp's data sets
file          files of results, to which lines are appended whole or not at all
compared      compares two files of results: which model is better on the same images
words         tables and sentences
"""
