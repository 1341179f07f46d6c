"""Imports an integration's host library only when it is needed.

A class that derives from a host's class cannot be defined before the host is imported. So an
integration defines a mixin, and joins it with the host's class when somebody looks up the class's
name in the module. The joined class is one object under a name of that module, so that it can be
pickled.
"""

import importlib
from types import ModuleType
from typing import Any

from fastclip.installation import install_command


def import_host(module: str, extra: str) -> ModuleType:
    """Import a module of a host.

    Args:
        module: the full name, such as "transformers".
        extra: the extra of fastclip-kernels that installs it.

    Raises:
        ModuleNotFoundError: the module, or a package that it imports, is not installed.

    Example:
        >>> import_host("transformers", "transformers-trainer").Trainer
        <class 'transformers.trainer.Trainer'>
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"fastclip.integrations needs {module} here ({error}): {install_command(extra)}"
        ) from error


def joined(module: dict[str, Any], name: str, mixin: type, of_host: type) -> type:
    """Return the class `name` of a module, which derives from `mixin` and the host's class.

    Args:
        module: the module's globals; the class is made once and kept there.
    """
    if name not in module:
        about = {"__module__": module["__name__"], "__doc__": mixin.__doc__}
        module[name] = type(name, (mixin, of_host), about)
    return module[name]
