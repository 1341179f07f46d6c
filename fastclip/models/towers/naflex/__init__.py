"""SigLIP 2's NaFlex vision transformer: images at their own aspect ratio, in padded batches."""
