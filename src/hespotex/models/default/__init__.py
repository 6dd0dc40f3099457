"""The default model: kernel regression and an image network on depth and composition."""
