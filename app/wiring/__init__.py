"""How a bucket is led to a source: plans, policies, findings. Knows AWS, never the store."""
