"""The published method: graph attention auto-encoder, graph decoder, and import of its checkpoints."""
