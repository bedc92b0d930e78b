"""Faults planted in torch modules: what a port or an exporter gets wrong before there is any graph."""
