"""What an evaluation found, in a file that other programs read and on the screen.

result        a task's numbers, with all that they depend on
outcomes      which single images were right, in few letters
formats       lines of JSON, as fastclip, CLIP_benchmark and DataComp have them
datacomp      names and main metrics of DataComp's data sets
file          lines that are appended whole, or not at all
compared      two such files: which model is better, on the same images
words         tables and sentences
"""
