"""Reuse from a paper: do the published numbers hold, is a re-implementation the same network?"""
