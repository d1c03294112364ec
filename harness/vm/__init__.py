# SPDX-License-Identifier: GPL-2.0-only
"""One virtual machine: its arguments, accelerator, console, shell and life."""
