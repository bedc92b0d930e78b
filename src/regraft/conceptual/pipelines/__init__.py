"""Where two data pipelines spend their time, and what the candidate's could do sooner with the same result."""
