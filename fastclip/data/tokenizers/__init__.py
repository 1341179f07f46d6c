"""Tokenizers: from texts to (B, T) int64 ids.

`words` knows the words of its captions; `byte_pairs` is OpenAI's, any text and no unknown token;
`hugging_face` wraps what transformers loads. Each is imported from its own file, so that the first
needs none of the packages of the others.
"""
