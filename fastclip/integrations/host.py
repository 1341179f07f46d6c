"""The package that an integration is called by: imported when it is needed, and not before.

A class that derives from a class of the host cannot be written down before the host is imported.
So an integration writes down a mixin, and joins it with the host's class when its name is asked of
the module. The joined class is one object with a name of that module, so that it can be pickled.
"""

import importlib
from types import ModuleType
from typing import Any

from fastclip.installation import install_command


def import_host(module: str, extra: str) -> ModuleType:
    """Import a module of a host.

    Args:
        module: its full name, such as "transformers".
        extra: the extra of fastclip-kernels that installs it.

    Raises:
        ModuleNotFoundError: it, or a package that it imports, is not installed.

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
    """The class `name` of a module: what `mixin` writes down, and otherwise the host's class.

    Args:
        module: its globals; the class is put there, and made once.
    """
    if name not in module:
        about = {"__module__": module["__name__"], "__doc__": mixin.__doc__}
        module[name] = type(name, (mixin, of_host), about)
    return module[name]
