"""What requests and answers look like: pydantic models with OpenAI's names."""
