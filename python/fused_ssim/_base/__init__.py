# SPDX-License-Identifier: MIT
"""What the other parts share and what never imports torch: settings, native codes, shapes, the installation."""
