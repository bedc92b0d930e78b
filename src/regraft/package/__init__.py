"""What a package is: references, sources, files, formats, cards."""
