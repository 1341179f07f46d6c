"""Checks and measurements that need a GPU: two commands for us, and `fastclip verify` for users.

    make gpu-first GPU_PYTHON=python3 GPU_OUTPUT=FOLDER     at most 170 s: first.json
    make gpu-check GPU_PYTHON=python3 GPU_OUTPUT=FOLDER     at most 330 s: gpu-check.json and .md,
                                                            verified.csv
    fastclip verify                                         a few minutes: see `verify/`

On a machine without make, the first two are `python3 benchmarks/gpu/launch.py first|check --output
FOLDER`. They need a Python with torch for CUDA and triton, and no network. Bring `wheels/` from
`make gpu-wheels`, and `fastclip/_cuda.so`, built anywhere with nvcc; otherwise it is built first.
Both commands end with a summary of less than 12,000 characters.

Kernels may hang or crash, and everything else must be measured nevertheless. So each stage is a
separate process (`worker.py`) that reports line by line what it does, and `watched.py` ends it if
it says nothing for 20 seconds (60 while something compiles). gpu-check has these stages:

    correctness   a process per set of kernels: compared with float64, on data that finds bugs; the
                  same bits twice; graph capture; offsets beyond 2^31 (`correctness.py`,
                  `checks.py`); each kernel against its twin in another set (`agreement.py`)
    ceilings      the vendor's kernels on this GPU at our shapes (`ceilings.py`)
    speed         all sets of kernels in turns, N = 8,192 to 131,072 (`speed.py`)
    comparison    time and peak memory of every provider, N = 4,096 to 1,048,576 (`comparison.py`)
    training      the cached step and a run of the trainer (`training.py`)

The results decide what is accepted (`acceptance.py`), which kernels are right for which dtype and D
(`verdict.py`), and the table by which `auto` chooses (`table.py`).
"""
