"""The primitives as registered operators, and the parts of losses. Imports torch only.

`dispatch.py` decides how a rectangle is computed, once per call of a loss, and `choice.py` chooses
the backend; `first_use.py` runs `self_check.py` where nothing is known about a backend yet.
`contrastive_lse.py`, `prefix_lse.py`, `siglip_sum.py` and `siglip_total.py` call and implement the
operators, whose schemas are in `schemas.py`; `calls.py` and `contracts.py` check their arguments,
and `differentiation.py` makes them differentiable. `cross_entropy.py`, `total_sigmoid_loss.py` and
`merge.py` are built from the operators; `eager.py` says where one node in C++ may replace them.
"""
