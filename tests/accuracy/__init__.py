# SPDX-License-Identifier: GPL-2.0-only
"""How right the object comparison is: seeded changes to real kernel sources, and the verdict each must get."""
