# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness` is `harness`."""

from harness.cli.main import main

main()
