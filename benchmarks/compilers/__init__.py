"""What compilers make of the kernels for a GPU, and what a call costs: without a GPU."""
