"""What is known: digests, evidence, passports, lineage, policies, permits, the store and its index."""
