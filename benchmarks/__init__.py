"""Benchmarks of the losses: cases, providers, measurement, report. See README.md."""
