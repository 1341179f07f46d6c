"""SigLIP's vision transformer: its configuration, its module, and the published models with it."""
