# SPDX-License-Identifier: MIT
"""The ground of the package, which never imports torch: native codes, settings, shapes, the installation."""
