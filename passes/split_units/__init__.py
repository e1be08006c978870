"""Hidden units with massive activations, computed apart in float."""
