"""Training of the entries that nothing pretrained exists for: vit, decoder, mamba, mamba2 (extra `torch`)."""
