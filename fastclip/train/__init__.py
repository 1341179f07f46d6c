"""Training in rooms, each of which imports only from those before it.

memory        how much memory there is, and how much of it graphs may take
weights       the copies that there are of the weights, and where they lie
settings      what a run is told, cut into the parts that its readers need
step          one step: two encodings, one loss, one step of AdamW
log           what a run says, to people and to files
checkpoints   what a run writes to go on from, and what is compared before it does
run           a run from its first step to its last, on every process
planning      what a run is going to take of the memory, counted before it starts
"""
