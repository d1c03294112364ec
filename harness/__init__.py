# SPDX-License-Identifier: GPL-2.0-only
"""Checks what the author of a Linux patch series says about it, on real kernels in QEMU."""
