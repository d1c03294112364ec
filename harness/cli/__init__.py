# SPDX-License-Identifier: GPL-2.0-only
"""The command line: thin shells around the rest, and the only place that exits."""
