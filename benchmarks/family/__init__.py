"""`fastclip bench losses`: each loss of the family against its peers and the dense formula."""
