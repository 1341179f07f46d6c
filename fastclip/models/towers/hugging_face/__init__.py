"""The text towers that are encoders of transformers, as open_clip has them.

families.py    kinds of encoder: what their configurations say, and which class builds them
published.py   the sizes of encoders that open_clip's models have, by name
config.py      the configuration: an encoder, how it is read out and how that is projected
module.py      the tower
weights.py     the weights that an encoder was published with, alone
presets.py     the models that have one
"""
