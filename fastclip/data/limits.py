"""Bounds of what a file from a stranger may ask for, looked at before any work is done for it.

Each is far above what published models need, and low enough that the largest file within it is
refused, or read, in seconds and in a bounded part of a machine's memory.
"""

# Bytes of JSON beside weights and tokenizers: CLIP's tokenizer.json, the largest, has 3.6 million.
LARGEST_JSON = 2**23
# Objects in objects: transformers' configurations have four levels.
DEEPEST_JSON = 32
# Values of a configuration inside of a checkpoint, where one list may stand in many places.
MOST_VALUES = 100_000
# Bytes of a text of merges: CLIP's has half a million, and OpenAI's file three.
LARGEST_VOCABULARY_TEXT = 2**24
# Characters of foreign content in an error: a part of a line.
LONGEST_QUOTE = 80
# Characters of a path or a specification in an error, of which more is worth showing.
LONGEST_TEXT = 512

# Of models. Vision transformers of 22 billion parameters have width 6,144 and 48 layers; CLIP's
# largest, 1,664 and 48. A module costs a millisecond even without memory.
LARGEST_WIDTH = 2**14
MOST_LAYERS = 256
LARGEST_MLP_RATIO = 64
# Tokens of a vocabulary: Gemma's, which SigLIP 2 has, are 262,144.
LARGEST_VOCABULARY = 2**21
# Tokens of a text: a causal mask of so many has 256 MiB.
LONGEST_CONTEXT = 2**13
LARGEST_IMAGE = 2**13  # pixels of a side
MOST_PATCHES = 2**16  # of an image
MOST_CHANNELS = 2**10
LARGEST_EXPONENT = 1000  # of a scale or a bias: float32 ends at exp(88)
MOST_PARAMETERS = 2**34  # 64 GiB in float32

# Of weights. Views may make more of a file than it holds, as tied weights do: so many times its
# size, or at least so many bytes.
LARGEST_EXPANSION = 8
SMALL_EXPANSION = 2**26
# Members of an archive: a tensor each, of which the largest models here have 2,000.
MOST_MEMBERS = 2**16
# Modules of a TorchScript archive, by every path that leads to them, and how deep they lie.
MOST_MODULES = 2**14
DEEPEST_MODULE = 64
LONGEST_NAME = 1024  # of a tensor
MOST_DIMENSIONS = 64  # as in PyTorch
