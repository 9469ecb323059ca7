"""The list of bad and of unusual inputs; importing it fills base.KINDS."""
from . import files, headers, graphs, nodes, tensors, external_data, moe  # noqa: F401
from .base import KINDS, MISSING  # noqa: F401
