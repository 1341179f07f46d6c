"""The trainer, in packages each of which imports only from the packages before it.

memory        how much memory there is, and how much of it activations may take
weights       masters, averages and sharding of the weights, and the devices that hold them
settings      the settings of a run, divided into the parts that the rest of the code reads
step          one step: two encodings, one loss, one step of AdamW
log           the output of a run, on the terminal and in files
checkpoints   the files that a run resumes from, and the comparison with the run that resumes
run           a run from its first step to its last, on every process
planning      an estimate of the memory that a run will take, before it starts
"""
