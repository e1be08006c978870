"""Rotations of what layers hand to one another: the float function stays, outliers are spread over all channels."""
