"""What a user may choose: the schema, its checks, and the composition of conf/."""
