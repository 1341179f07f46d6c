"""Bounds on what a file from an unknown origin may ask for, checked before any work is done.

Each bound is far above what published models need, and low enough that the largest file within it
is refused, or read, in seconds and with bounded memory.
"""

# Bytes of JSON next to weights and tokenizers: CLIP's tokenizer.json, the largest, has 3.6 million.
LARGEST_JSON = 2**23
# Objects in objects: transformers' configurations have four levels.
DEEPEST_JSON = 32
# Values of a configuration inside a checkpoint, where one list may be in many places.
MOST_VALUES = 100_000
# Bytes of a text of merges: CLIP's has half a million, and OpenAI's file three.
LARGEST_VOCABULARY_TEXT = 2**24
# Characters of foreign content that an error quotes: a part of a line.
LONGEST_QUOTE = 80
# Characters of a path or a specification in an error, which may be longer.
LONGEST_TEXT = 512

# Bounds of models. Vision transformers of 22 billion parameters have width 6,144 and 48 layers;
# CLIP's largest has 1,664 and 48. Making a module takes a millisecond even without memory.
LARGEST_WIDTH = 2**14
MOST_LAYERS = 256
LARGEST_MLP_RATIO = 64
# Tokens of a vocabulary: Gemma's, which SigLIP 2 uses, has 262,144.
LARGEST_VOCABULARY = 2**21
# Tokens of a text: the causal mask of such a text takes 256 MiB.
LONGEST_CONTEXT = 2**13
LARGEST_IMAGE = 2**13  # pixels per side
MOST_PATCHES = 2**16  # of an image
MOST_CHANNELS = 2**10
LARGEST_EXPONENT = 1000  # of a scale or a bias: float32 ends at exp(88)
MOST_PARAMETERS = 2**34  # 64 GiB in float32

# Bounds of weights. Views, such as tied weights, may expand a file to more than its size: to at
# most this multiple of the size, or at least to this many bytes.
LARGEST_EXPANSION = 8
SMALL_EXPANSION = 2**26
# Members of an archive, one per tensor; the largest models here have 2,000.
MOST_MEMBERS = 2**16
# Modules of a TorchScript archive, counted by every path to them, and how deep they are nested.
MOST_MODULES = 2**14
DEEPEST_MODULE = 64
LONGEST_NAME = 1024  # of a tensor
MOST_DIMENSIONS = 64  # as in PyTorch
