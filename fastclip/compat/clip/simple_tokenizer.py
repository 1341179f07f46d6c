"""The names of `clip.simple_tokenizer`."""

from fastclip.data.tokenizers.cleaning import collapse as whitespace_clean
from fastclip.data.tokenizers.cleaning import repair as basic_clean
from fastclip.data.tokenizers.openai import SimpleTokenizer
