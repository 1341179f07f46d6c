"""The copies that there are of the weights, and on which processes they lie."""
