# SPDX-License-Identifier: MIT
"""The interfaces of other packages, for code that was written for them."""
