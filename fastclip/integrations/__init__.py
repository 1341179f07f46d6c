"""What runs fastclip inside other people's engines; each module needs the package it is called by.

accelerate              cached steps of a prepared model: `cached_step`
lightning               a LightningModule that takes cached steps: `ContrastiveLightningMixin`
open_clip_train         open_clip's own trainer with fastclip's losses, from the command line
ray                     embedding on all machines of a Ray cluster: `embed`
sentence_transformers   its losses of in-batch negatives, without the matrices of scores
transformers            a Trainer of CLIP, SigLIP and dual encoders: `ContrastiveTrainer`

Importing one imports nothing of its host. `docs/integrations.md` shows each at work.
"""
