import importlib.util

if importlib.util.find_spec("triton") is None:
    collect_ignore = ["test_cost.py", "test_triton_report.py"]
