"""Data sets that models are evaluated on: labelled images, or pairs; each is encoded once.

opening       opens the set that a user names
reading       the settings for reading files, and which of them a kind of data set uses
labelled      sets of labelled images, from files of every kind
layout        CLIP_benchmark's folders of shards, with text files next to them
lines         captions with several lines, each of which is a caption
class_list    names and prompts of the classes, matched with the labels
features      encodes a set once, in an order that does not depend on workers
encoding      encodes a set, or takes its features from a cache
cache         features that are stored in folders of embeddings
unchanged     checks whether stored features still belong to the samples
"""
