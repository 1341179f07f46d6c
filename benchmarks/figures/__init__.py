"""Draw figures of results: time and memory against N, and the roofline."""
