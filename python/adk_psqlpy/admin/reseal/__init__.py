"""Sealing what is stored with the current key: after a rotation, or when sealing begins."""

from adk_psqlpy.admin.reseal.run import Resealed, reseal

__all__ = ["Resealed", "reseal"]
