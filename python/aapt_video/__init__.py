"""Real-time autoregressive video generation."""
