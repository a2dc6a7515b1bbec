"""Configuration: the schema, its checks, and the composition of conf/."""
