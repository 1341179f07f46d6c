"""Backends: implementations of the two primitives, one module each.

A backend module works on tensors and knows neither autograd nor dispatch. It loads its libraries
when `load_backend` imports it, or at its first call; `unsupported` and the other questions load
nothing. A module provides

    unsupported(device_type, dtype) -> str | None
        why it cannot take inputs of this kind, None if it would run
    variant_on(device) -> str
        for backends for a GPU only: the name of the kernels that would run there. "auto" takes them
        only where they are known to be correct (`gpu/known.py`)
    kept_layout(primitive, dtype) -> KeptLayout
        how the forward of "contrastive_lse" or "siglip_sum" keeps logits for its backward
        (`kept_logits.py`)

    contrastive_lse(rectangle, workspace, kept_rows, needs_maximum)
            -> positive, shift, total, kept
    contrastive_lse_backward(rectangle, grad_positive, grad_total, shift, kept, workspace, wants)
            -> grad_row, grad_col, grad_logit_scale
    siglip_sum(rectangle, logit_bias, workspace, kept_rows)
            -> row_loss, kept
    siglip_sum_backward(rectangle, logit_bias, grad_row_loss, kept, workspace, wants)
            -> grad_row, grad_col, grad_logit_scale, grad_logit_bias
    siglip_sum_with_gradients(rectangle, logit_bias, workspace, grad_dtype, wants)
            -> total, grad_row, grad_col, grad_logit_scale, grad_logit_bias
        optional: the sum of all row losses and its gradients in one pass

    cut_of_one_block(rectangle, workspace) -> cut or None
    clip_loss_at_once(rectangle, cut, keep)
            -> loss, saved: statistics, kept and others; statistics begin with positive (N,), shift
               (2, N) and total (2, N)
    clip_loss_at_once_backward(rectangle, grad_loss, saved, wants)
            -> grad_row, grad_col, grad_logit_scale
        optional, together: the mean CLIP loss of a square and its gradients, where
        `cut_of_one_block` does not return None; eager mode uses them instead of `contrastive_lse`
        (`ops/whole_clip_loss.py`)

    prefix_lse(rectangle, dims, kept_rows)
            -> positive (K, M), maximum (K, M + N), total (K, M + N), kept
    prefix_lse_backward(rectangle, dims, grad_positive, grad_total, positive, maximum, kept, wants)
            -> grad_row, grad_col, grad_logit_scale
        optional, together: the statistics of `contrastive_lse` for K prefixes of the features in
        one pass; `ops/prefix_lse.py` has their mathematics

    CHECKS_ARGUMENTS
        optional: its functions reject wrong arguments themselves. The functions of other backends
        may rely on `ops/contracts.py`, which checks their arguments first
    TAKES_INTERVALS
        optional: its functions support `rectangle.excluded`; other backends never get one

and imports neither another backend nor `fastclip.ops`. The arguments:

    rectangle       `fastclip.rectangle.Rectangle` with M rows and N columns
    workspace       bytes of memory that may be used to save time, None for the backend's own bound
    kept_rows       how many rows of logits the forward keeps; `kept` is (kept_rows, bytes of a row)
                    uint8
    needs_maximum   whether the shifts must be the largest negatives
    wants           Sides: which features' gradients are wanted; for the others, (0,) is returned
    positive        (M,), 0 where a row has no pair
    shift, total    for the sides that are wanted, rows first: (M,), (N,) or (M + N,). Kernels that
                    always compute both sides use `both_sides.py`
    row_loss        (M,)

`reference.py` has the mathematics of the primitives and is their specification. `gpu/` is not a
backend: it contains what the backends for a GPU share, the order of their kernels and what is known
about these kernels.
"""
