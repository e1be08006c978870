"""Training of the entries that nothing pretrained exists for: vit, swin, decoder, mamba, mamba2 (extra `torch`)."""
