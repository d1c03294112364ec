# SPDX-License-Identifier: GPL-2.0-only
"""What a user writes: YAML to frozen values, with file and line in every complaint."""
