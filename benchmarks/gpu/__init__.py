"""`make gpu-check`: what only a GPU can tell, in one command of less than nine minutes.

    correctness   every GPU backend against float64, on the data that finds bugs; the same bits
                  twice; graph capture; offsets beyond 2^31 (`correctness.py`)
    ceilings      what this GPU does at our shapes with the vendor's kernels (`ceilings.py`)
    comparison    time and peak memory of every provider, N = 4,096 to 1,048,576 (`comparison.py`)

Each stage is a process of its own that prints a JSON line per result (`worker.py`); the supervisor
(`check.py`) writes them to the results as they come, so that being stopped loses nothing, and
starts a stage again without what took it down.
"""
