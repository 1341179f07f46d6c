"""The primitives as registered operators, and what losses are composed of. Imports torch only.

`dispatch.py` decides how a rectangle is computed, once per call of a loss, and `choice.py` by which
backend; `first_use.py` finds out what is not known yet, by `self_check.py`. `contrastive_lse.py`,
`prefix_lse.py`, `siglip_sum.py` and `siglip_total.py` call and implement the operators, whose
schemas are in `schemas.py`; `calls.py` and `contracts.py` check what they are given,
`differentiation.py` makes them differentiable. `cross_entropy.py`, `total_sigmoid_loss.py` and
`merge.py` are made of them; `eager.py` says where one node in C++ may take their place.
"""
