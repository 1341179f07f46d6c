"""The parts of towers: blocks, attention, norms, activations, masks, patch dropout."""
