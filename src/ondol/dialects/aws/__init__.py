"""The dialect of AWS: Lambda, and the parts of Logs, STS and IAM that its users' clients call. docs/explain/architecture.md."""
