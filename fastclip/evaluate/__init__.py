"""Evaluation: retrieval and zero-shot classification, streamed: no N x N here either."""
