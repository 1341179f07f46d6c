"""Backends: implementations of the two primitives, one module each.

A backend module knows tensors, not autograd and not dispatch. It provides

    unsupported(device_type, dtype) -> str | None
        its objection to inputs of this kind, None if it would run
    KEPT_BYTES
        how many bytes of logits its forward keeps for its backward unless told otherwise;
        0 if it keeps none in any case
    contrastive_lse, contrastive_lse_backward, siglip_sum, siglip_sum_backward
        the four functions of `fastclip.ops`, same names, same order of arguments

and imports neither another backend nor `fastclip.ops`. The mathematics of the primitives is in
`reference.py`, which is their specification.
"""
