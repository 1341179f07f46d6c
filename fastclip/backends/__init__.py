"""Backends: implementations of the two primitives, one module each.

A backend module knows tensors, not autograd and not dispatch. Importing it, which `load_backend`
does, loads what it needs; its functions load nothing, so that a question has no side effect. A
module provides

    unsupported(device_type, dtype) -> str | None
        its objection to inputs of this kind, None if it would run
    variant_on(device) -> str
        of backends for a GPU only: the name of the kernels that would run there. "auto" takes them
        where `gpu/verified.py` says so, and nowhere else
    kept_layout(primitive, dtype) -> KeptLayout
        what the forward of "contrastive_lse" or "siglip_sum" keeps of the logits for its backward
        (`kept_logits.py`)
    contrastive_lse, contrastive_lse_backward, siglip_sum, siglip_sum_backward
        the four functions of `fastclip.ops`, same names, same order of arguments
    siglip_sum_with_gradients
        optional: the sum of all row losses and its gradients in one pass
    CHECKS_ARGUMENTS
        optional: its functions refuse wrong arguments themselves; for others `fastclip.ops` does,
        by `ops/contracts.py`, on which they may rely

and imports neither another backend nor `fastclip.ops`. The mathematics of the primitives is in
`reference.py`, which is their specification. `gpu/` is not a backend: it is what those for a GPU
share, the order of their kernels and the table of where these are verified.
"""
