"""How much each layer loses when it is quantized, alone and together with the layers that lose less."""
