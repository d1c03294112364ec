# SPDX-License-Identifier: GPL-2.0-only
"""Sources, series, trees, configurations and builds of kernels."""
