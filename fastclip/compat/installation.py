"""Makes the name of another package mean one of ours, in this process."""

import importlib
import pkgutil
import sys
from types import ModuleType


def install_as(name: str, package: ModuleType) -> None:
    """Make `import name`, and the import of every module in it, return `package` and its modules.

    A second call changes nothing. The effect lasts as long as the process.

    Args:
        name: the name of the other package.
        package: the package to import instead, with modules of the same names.

    Raises:
        RuntimeError: `name` is already imported and is another package.
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
