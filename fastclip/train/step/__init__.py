"""One step of training: two encodings, one loss, one step of AdamW."""
