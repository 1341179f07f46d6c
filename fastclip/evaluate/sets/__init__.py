"""Data sets that models are evaluated on: labelled images, or pairs; each is encoded once.

opening       from what a user names to a set
reading       how files are read, and which of that a kind of data set looks at
labelled      which images have which class, in files of every kind
layout        CLIP_benchmark's folders of shards, with texts beside them
lines         captions of which every line is one
class_list    names and prompts of the classes, which fit the labels
features      one pass of encoding, in an order that no worker changes
encoding      loaded and encoded, or taken from a cache
cache         features that are kept in folders of embeddings
unchanged     are they of the samples as they are now?
"""
