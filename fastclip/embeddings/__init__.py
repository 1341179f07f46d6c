"""Embeddings: features of images and of texts, as a model gives them.

encode      features of a model, batch after batch
"""
