# SPDX-License-Identifier: GPL-2.0-only
"""Compares the object code of two kernel builds: objects in, explained differences out.

`objdiff.compare` is the entry, `size.compare_sizes` its sibling for sizes. Nothing here is imported for the
caller, so that a process that only compares starts fast.
"""
