"""What generated code calls where one torch expression cannot say an op; copied into artifacts."""
