"""fastclip inside other libraries' training engines, one module per library.

accelerate              cached steps of a prepared model: `cached_step`
lightning               a LightningModule that takes cached steps: `ContrastiveLightningMixin`
open_clip_train         open_clip's own trainer with fastclip's losses, from the command line
ray                     embedding on all machines of a Ray cluster: `embed`
sentence_transformers   its losses of in-batch negatives, without the matrices of scores
transformers            a Trainer for CLIP, SigLIP and dual encoders: `ContrastiveTrainer`

Each module needs its library (its host), but imports the host only when it is used.
`docs/integrations.md` shows each at work.
"""
