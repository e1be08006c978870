"""Float rewrites that leave fewer nodes: what follows a layer goes into its weights."""
