"""Letting a package's name mean one of ours, in this process."""

import importlib
import pkgutil
import sys
from types import ModuleType


def install_as(name: str, package: ModuleType) -> None:
    """Make `import name`, and the import of every module in it, return `package` and its modules.

    Once it is done, doing it again changes nothing. It lasts as long as the process.

    Args:
        name: of the other package.
        package: its modules have the names of the other's.

    Raises:
        RuntimeError: `name` is already imported, and is another package.
    """
    present = sys.modules.get(name)
    if present is package:
        return
    if present is not None:
        place = getattr(present, "__file__", None)
        raise RuntimeError(
            f"{name} is already imported, from {place}: call install() before anything imports it"
        )
    modules = {name: package}
    for found in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}."):
        alias = name + found.name.removeprefix(package.__name__)
        modules[alias] = importlib.import_module(found.name)
    sys.modules.update(modules)
