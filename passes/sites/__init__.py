"""Where a float graph can be rewritten: norms and the layers behind them, pairs of layers; and why not elsewhere."""
