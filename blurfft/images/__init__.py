"""Photographs for the programs: read without loss, restored, written without loss. Needs Pillow (``blurfft[cli]``)."""

from ..files import Refused
from .photo import Photo
from .reading import MAX_PIXELS, read
from .restoration import edge_taper, restore, smooth
from .writing import output, write

__all__ = ["MAX_PIXELS", "Photo", "Refused", "edge_taper", "output", "read", "restore", "smooth", "write"]
