"""Ids that a loss of the family refuses."""

import pytest
import torch

import fastclip

IDS, X = torch.zeros(4, dtype=torch.int64), torch.eye(4)
IDS_OF_5 = torch.zeros(5, dtype=torch.int64)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fastclip.info_nce_loss(X, X, ids=IDS, key_ids=IDS), ValueError,
         "query_ids and key_ids must be None with them"),
        (lambda: fastclip.info_nce_loss(X, X, query_ids=IDS), ValueError,
         "query_ids and key_ids must be given together, but key_ids is None"),
        (lambda: fastclip.info_nce_loss(X, X, ids=IDS, negative_ids=IDS), ValueError,
         "negative_ids are the ids of negative_keys, but negative_keys is None"),
        (lambda: fastclip.info_nce_loss(X, X, X, ids=IDS), ValueError,
         "compared with negative_ids: negative_ids is None"),
        (lambda: fastclip.info_nce_loss(X, X, X, negative_ids=IDS), ValueError, "ids is None"),
        (lambda: fastclip.info_nce_loss(X, X, X, query_ids=IDS, key_ids=IDS), ValueError,
         "key_ids cannot be given with negative_keys"),
        (lambda: fastclip.info_nce_loss(X, X, X, ids=IDS, query_ids=IDS), ValueError,
         "query_ids must be None if ids are given"),
        (lambda: fastclip.info_nce_loss(X, X, X, ids=IDS, negative_ids=IDS_OF_5), ValueError,
         r"negative_ids must have shape \(4,\), .* got \(5,\)"),
        (lambda: fastclip.nt_xent_loss(X, X, ids=IDS.int()), ValueError, "ids must be int64"),
        (lambda: fastclip.dcl_loss(X, X, ids=[0] * 4), TypeError, "ids must be a torch.Tensor"),
        (lambda: fastclip.dcl_loss(X[:1], X[:1], ids=IDS[:1]), ValueError, "one pair alone"),
        (lambda: fastclip.info_loob_loss(X, X, image_ids=IDS), ValueError, "text_ids is None"),
        (lambda: fastclip.distill_clip_loss(X, X, 9.0, X, X, 9.0, ids=IDS_OF_5), ValueError,
         r"ids must have shape \(4,\)"),
        (lambda: fastclip.SogCLRLoss(9)(X, X, torch.arange(4), ids=IDS, text_ids=IDS), ValueError,
         "image_ids and text_ids must be None with them"),
        (lambda: fastclip.multiple_negatives_loss(X, X, document_ids=IDS), ValueError,
         "query_ids and document_ids must be given together, but query_ids is None"),
        (lambda: fastclip.multiple_negatives_loss(X, X, [X], hard_negative_ids=[IDS]), ValueError,
         "hard_negative_ids are compared with the ids of queries"),
        (lambda: fastclip.multiple_negatives_loss(X, X, [X], ids=IDS, hard_negative_ids=IDS),
         TypeError, "hard_negative_ids must be a sequence of tensors"),
        (lambda: fastclip.multiple_negatives_loss(X, X, [X], ids=IDS, hard_negative_ids=[]),
         ValueError, "as many as hard_negatives, 1, got 0"),
        (lambda: fastclip.multiple_negatives_loss(
            X, X, [X], ids=IDS, hard_negative_ids=[IDS_OF_5]), ValueError,
         r"hard_negative_ids\[0\] must have shape \(4,\)"),
        (lambda: fastclip.modalities_loss(dict(a=X, b=X), [("a", "b")], ids=dict(a=IDS)),
         ValueError, "there are features, but no ids, of 'b'"),
        (lambda: fastclip.modalities_loss(
            dict(a=X, b=X), [("a", "b")], ids=dict.fromkeys("abc", IDS)), ValueError,
         "there are ids, but no features, of 'c'"),
        (lambda: fastclip.modalities_loss(
            dict(a=X, b=X), [("a", "b")], ids=dict(a=IDS, b=IDS.int())), ValueError,
         r"ids\['b'\] must be int64"),
        (lambda: fastclip.modalities_loss(dict(a=X, b=X), [("a", "b")], ids=IDS_OF_5),
         ValueError, r"ids must have shape \(4,\)"),
    ],
)  # fmt: skip
def test_bad_ids_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
