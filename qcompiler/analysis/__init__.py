"""Analysis of outliers: statistics of activations, how much the calibration set matters, and what follows."""
