"""Text towers that are encoders of transformers, as in open_clip.

families.py    the kinds of encoder: the fields of their configurations, and their classes
published.py   the sizes of the encoders in open_clip's models, by name
config.py      the tower's configuration: an encoder, how its tokens are pooled and projected
module.py      the tower
weights.py     the weights that were published for an encoder alone
presets.py     the models that have such a tower
"""
