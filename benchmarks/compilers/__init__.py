"""Report what compilers make of the GPU kernels, and what a call costs, without a GPU."""
