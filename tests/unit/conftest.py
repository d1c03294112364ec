# SPDX-License-Identifier: GPL-2.0-only
"""What unit tests share."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("harness", deadline=None)  # a test never fails on time
hypothesis.settings.load_profile("harness")
