"""One loss over the batches of several processes, by torch.distributed (NCCL or gloo).

Rank r of W has B_r pairs; these numbers may differ, and N = sum of B_r > 0. B_r is at least 1,
except for pairs of modalities, of which a rank may have none. The loss L is the loss of the N pairs
as one batch, and every rank returns it, with the same bits. The backward of rank r gives

    W * dL/d(own features)                         for its own images and its own texts
    W * (its share of dL/d logit_scale, dL/d logit_bias),  where the shares of all ranks add up

so that the mean over ranks that DistributedDataParallel takes of every gradient,

    1/W sum_r W * (share of rank r)  =  dL/d parameter

is the gradient of L, for encoders, logit_scale and logit_bias, in every mode and for every W.

Each logit is computed by one rank: rank r has the rectangle of its own rows and all columns. Its
rows see all their negatives; the other ranks send what its columns lack.

    schedule   the columns' features                     memory per rank    communication per rank
    gather     are all here at once                      O(N D)             2 N D elements
    ring       visit, a rank's block after the other     O(max B_r D)       3 N D, overlapped

Where one side is frozen, its features are the columns: then no gradients of features are sent.
"""
