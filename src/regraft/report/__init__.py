"""Evidence made readable: terminal, Markdown, SARIF, HTML. Reads only records."""
