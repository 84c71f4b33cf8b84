"""What is made from the code: the references of stages and payloads, and the schema of pipeline files."""
