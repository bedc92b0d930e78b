"""The converters, one file a hop: `<target>_from_<source>`, as in `convert/interface.py`."""
