"""`fastclip bench`: run the benchmarks, which are outside the package in a source tree."""

from fastclip.benchmarks.command import add_arguments as add_arguments
from fastclip.benchmarks.command import run as run
