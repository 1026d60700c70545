"""Reading the small JSON files that describe a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raycp.errors import ModelError


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ModelError(f"there is no {path.name} in {path.parent}.") from err
    except (OSError, ValueError) as err:
        raise ModelError(f"{path} cannot be read as JSON: {err}.") from err
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, got a {type(content).__name__}.")
    return content
