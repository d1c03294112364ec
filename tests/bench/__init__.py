# SPDX-License-Identifier: GPL-2.0-only
"""Measurements; `make bench` runs them all and writes docs/benchmarks.md. No test fails on time."""
