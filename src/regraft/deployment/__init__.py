"""Run it elsewhere: convert, verify, measure. Each verb ends in evidence."""
