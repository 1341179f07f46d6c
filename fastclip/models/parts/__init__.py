"""What towers are built of: blocks, attention, norms, activations, masks, patch dropout."""
