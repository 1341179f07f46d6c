"""Tokenizers: they map texts to (B, T) int64 ids.

`byte_pairs` is OpenAI's tokenizer, which takes any text and has no unknown token; `hugging_face`
wraps a tokenizer that transformers loads; `fastclip.data.digits.tokenizer` knows the words of its
captions. Each is imported from its own file, and only then needs the packages it uses.
"""
