# SPDX-License-Identifier: GPL-2.0-only
"""Foreign content runs in a box, under limits, and what it leaves is looked over before anything reads it."""
