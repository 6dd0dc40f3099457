"""Image features of spots: patches at several widths, encoded once, or read from other tools' files."""
