"""Files on disk: safe reading, atomic writing, content keys, and the folder of a run."""
