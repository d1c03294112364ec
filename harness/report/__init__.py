# SPDX-License-Identifier: GPL-2.0-only
"""One result model, written as a table, JSON and JUnit."""
