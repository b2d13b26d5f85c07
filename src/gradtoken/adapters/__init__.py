"""The calling conventions of other packages, each in one file: `captum`, `gradcam`, `quantus`, and `plain` arrays.

None of these packages is needed, but for `captum`, whose classes are derived from.
"""
