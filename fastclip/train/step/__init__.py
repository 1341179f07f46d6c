"""One step of training: two encodings of the batch, one loss, one step of AdamW."""
