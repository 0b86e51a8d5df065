"""Import of optional packages."""

from __future__ import annotations

import importlib
from typing import Any


def package(name: str, distribution: str) -> Any:
    """Import an optional package.

    Args:
        name: name of the module.
        distribution: name of the package for ``pip``.

    Raises:
        ImportError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != name.split(".")[0]:
            raise
        raise ImportError(f"this answer needs {distribution}: pip install {distribution}", name=name) from error
