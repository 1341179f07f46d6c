"""What only a GPU can tell: two commands, of which the first cannot be lost, and `fastclip verify`.

    make gpu-first GPU_PYTHON=python3 GPU_OUTPUT=FOLDER     at most 170 s: first.json
    make gpu-check GPU_PYTHON=python3 GPU_OUTPUT=FOLDER     at most 330 s: gpu-check.json and .md,
                                                            verified.csv
    fastclip verify                                         a user's minute: see `verify/`

The first two are `python3 benchmarks/gpu/launch.py first|check --output FOLDER`, for a machine
without make. They need a Python with torch for CUDA and triton, and no network; what should be
there beforehand is `fastclip/_cuda.so`, built anywhere with nvcc, which is built first otherwise,
and `wheels/` from `make gpu-wheels`. Both print last what matters, in less than 12,000 characters.

Kernels may hang or crash, and everything else must be measured nevertheless. So each stage is a
process of its own (`worker.py`) that says line by line what it does, and `watched.py` ends it if it
says nothing for 20 seconds (60 where something compiles). gpu-check has these:

    correctness   a process per set of kernels: against float64, on the data that finds bugs; the
                  same bits twice; graph capture; offsets beyond 2^31 (`correctness.py`,
                  `checks.py`); each kernel beside its twin of another set (`agreement.py`)
    ceilings      what this GPU does at our shapes with the vendor's kernels (`ceilings.py`)
    speed         all sets of kernels in turns, N = 8,192 to 131,072 (`speed.py`)
    comparison    time and peak memory of every provider, N = 4,096 to 1,048,576 (`comparison.py`)
    training      the cached step and a run of the trainer (`training.py`)

From the results come what is accepted (`acceptance.py`), which kernels are right for which dtype
and D (`verdict.py`), and the table by which `auto` chooses (`table.py`).
"""
