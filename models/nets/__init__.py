"""Small PyTorch modules of the trained entries: a ViT, a Swin transformer, a LLaMA-style decoder, Mamba-1 and Mamba-2.

Importing this package does not import torch; its modules do (extra `torch`).
"""
