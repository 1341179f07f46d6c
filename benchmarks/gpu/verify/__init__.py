"""What `fastclip verify` does: which kernels for a GPU are right on this one, and how fast.

`measure.py` is the stage of a set of kernels, in a process of its own; `verification.py` watches
the processes and makes verdicts, which go to the user's file (`backends/gpu/own_verdicts.py`);
`words.py` says them.
"""
