"""CLIP's text tower, which SigLIP's models have, too: its configuration and its module."""
