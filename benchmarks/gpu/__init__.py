"""`make gpu-check`: what only a GPU can tell, in one command of less than nine minutes.

    correctness   every GPU backend against float64, on the data that finds bugs; the same bits
                  twice; graph capture; offsets beyond 2^31 (`correctness.py`); each kernel beside
                  its twin of the other backend (`agreement.py`)
    ceilings      what this GPU does at our shapes with the vendor's kernels (`ceilings.py`)
    speed         all sets of kernels in turns, N = 8,192 to 131,072 (`speed.py`)
    training      the cached step and a run of the trainer (`training.py`)
    comparison    time and peak memory of every provider, N = 4,096 to 1,048,576 (`comparison.py`)

Each stage is a process of its own that prints a JSON line per result (`worker.py`); the supervisor
(`check.py`) writes them to the results as they come, so that being stopped loses nothing, and
starts a stage again without what took it down. From the results come what is accepted
(`acceptance.py`) and the table by which `auto` chooses (`table.py`).
"""
