"""The code that backends for a GPU share: everything but the kernels, which are an argument.

Read in this order: `contrastive.py` has the steps; `operand.py`, `scalars.py`, `partials.py` and
`logit_matrix.py` have the arguments and results of kernels; `block_walk.py`, `blocks.py` and
`products.py` are the backward. `sigmoid.py` has the steps of SigLIP. `precision.py` says which
numbers have 16 bits. `verified.py` has the shipped table of the kernels that are correct on a GPU,
and how fast they are; `own_verdicts.py` has what the user's machine found (`environment.py` says
where a verdict holds), and `known.py` what follows for "auto".

A set of kernels is a module with the functions below. They launch on the current device and stream,
never wait for the host, give the same bits at every run, let nan and inf of features reach the
results, and run on any tensors of these shapes:

    features        (M, D) or (N, D) float32, bfloat16 or float16, any strides
    rows, cols      Operand: values (planes, padded rows, padded D) float16, contiguous
    scalars         (NUM_SCALARS,) float32
    matrix          LogitMatrix: M, N, where the pairs are, and what rows, or transposed columns,
                    leave out
    region          Region: a part of the matrix, padded to whole tiles
    block           (planes, m, n) float16, contiguous, written wherever its tiles are; m and n are
                    multiples of ROW_MULTIPLE, its first column too, its first row is any
    kept            (kept_rows, N padded) int16, multiples of `step`, or float32, log2 units;
                    contiguous
    shift, total    (M + N,) float32, natural units; of finalise, the part of one side, which begins
                    anywhere
    vectors         GradientVectors: shift (M + N,), grad_total (M + N,) and grad_positive (M,),
                    float32

Both primitives
    prepare(features, of: Extent | None, planes: int) -> Operand
        rows padded to ROW_MULTIPLE, D to DIM_MULTIPLE; of None: normalised, with norms
    scalars(logit_scale () float32, logit_bias () float32 | None,
            row_extent: Extent | None, col_extent: Extent | None, longest_sum: int,
            gradients: LargestGradients | None = None) -> (NUM_SCALARS,) float32
        BIAS only with logit_bias; WEIGHT, GRAD_ROW and GRAD_COL only with gradients
    feature_gradient(acc, features, operand: Operand, scalars, unscale: int, grad) -> (M,) float32
        acc (at least M, padded D) float32; unscale GRAD_ROW or GRAD_COL, the position of what acc
        is multiplied by; grad (M, D), its own dtype, contiguous, written, or None; operand gives
        the norms. Returned: every row's part of d logit_scale

Softmax
    positives(rows, cols, scalars, matrix) -> (M,) float32
        natural units, 0 where a row has no pair
    partials(of: Reduction) -> Partials
        of 2^(logit - shift) over the negatives, float32; the logits of the first kept_rows rows are
        written to kept, which has no rows where none are kept. Or, with maximum, of logits in log2
        units, -inf where there is no negative; positive (M,) float32 is written again, from the
        same product, where a row has a pair
    finalise(rows, cols, scalars, matrix, partials, maximum, shift, total) -> None
        of one side (of columns: operands swapped, matrix transposed); partials (any number, M)
        float32; maximum (M,) float32 in log2 units, or None; shift and total (M,) written.
        Rows whose sum is below TRUSTED_SUM are computed again
    recomputed(region, rows, cols, scalars, block, vectors) -> None
        writes weight G of the region to block; rows is the operand of the region's rows only, cols
        of all N
    from_kept(region, kept, scalars, block, vectors) -> None
        the same from kept logits, which are 0 beyond kept_rows

Sigmoid
    sigmoid_tiles(region, rows, cols, scalars, block, grad_row_loss, with_loss: bool)
            -> row_partial, bias_partial
        both (column tiles, region.num_rows) float32, sums over each tile's columns: of losses in
        natural units (no rows without with_loss), of G (no rows without block); block as above, of
        the region, or None; grad_row_loss (M,) float32, or None for ones; rows as in recomputed

With two planes a block's low plane is LOW_SCALE times what the high one leaves of weight G.
Beyond M and N, blocks and the partials of sigmoid_tiles are zeros.
"""
