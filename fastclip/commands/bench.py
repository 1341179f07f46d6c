"""`fastclip bench`: the benchmarks, which lie outside the package in a source tree."""

from fastclip.benchmarks.command import add_arguments as add_arguments
from fastclip.benchmarks.command import run as run
