# SPDX-License-Identifier: GPL-2.0-only
"""Machines with links between them, and what runs on them."""
