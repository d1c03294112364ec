# SPDX-License-Identifier: GPL-2.0-only
"""The content-addressed cache: staged, checksummed, locked by key, verified on load, evicted by last use."""
