"""`qcompile bench`: latency measured here, and what a Jetson could reach at best."""
