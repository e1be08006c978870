"""Quantizers for softmax outputs whose levels are not evenly spaced, carried out by lookup tables."""
