# SPDX-License-Identifier: GPL-2.0-only
"""The steps of a run, each a function from inputs and the store to values; `harness.engine` strings them together."""
