"""Published weights files: which there are, where they come from, and how they are fetched.

The list is light: it may be imported by whatever has to say where a missing file comes from.
"""

from raycp.published.entry import Published, PublishedFile
from raycp.published.registry import PUBLISHED, find, missing_help, recognised

__all__ = ["PUBLISHED", "Published", "PublishedFile", "find", "missing_help", "recognised"]
