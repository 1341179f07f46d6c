"""How much memory there is, and how much of it graphs may take."""
